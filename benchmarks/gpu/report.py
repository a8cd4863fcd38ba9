"""What measure.py found, as Markdown."""

import shapes


def number(value):
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def percent(value):
    return f"{100 * value:.0f} %"


def spread(figure):
    if figure["min"] == figure["max"]:
        return number(figure["median"])
    return f"{number(figure['median'])} ({number(figure['min'])}–{number(figure['max'])})"


def table(head, rows):
    lines = [f"| {' | '.join(cells)} |" for cells in [head, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]]) + "\n"


def same_run(one, other):
    return all(one[key] == other[key] for key in ("streams", "prompt_tokens", "output_tokens"))


class Report:
    """The tables of one measurement."""

    def __init__(self, found):
        self._found = found
        # Of our own copy in the same process as the kernels, or of torch's.
        self._copy = (found["kernels"].get("copy_gb_per_s")
                      or found["limits"].get("copy_gb_per_s"))

    def text(self):
        machine = self._found["machine"]
        parts = [f"{machine['gpu']}, {machine['gpu_memory']}, driver {machine['driver']}, CUDA "
                 f"{machine['cuda']}; {machine['cpu']}, {machine['cores']} cores, "
                 f"{machine['memory_gib']} GiB; {self._found['date']}, commit "
                 f"{self._found['commit']}\n", self._limits()]
        models = [row for shape in self._found["models"] for row in self._model_rows(shape)]
        if models:
            parts.append(table(["shape, bf16", "what", "Sluice", "limit", "of it", "Transformers",
                                "ratio"], models))
            parts += [self._peers(), self._notices()]
        parts += [self._linear(),
                  self._cases("attention", "Attention of one layer of Llama 3.1 8B, bf16"),
                  self._cases("sampling", "Sampling from 250,880 tokens"), self._notes("failed", "Failed"),
                  self._notes("left_out", "Left out")]
        return "\n".join(part for part in parts if part)

    def _limits(self):
        limits, kernels = self._found["limits"], self._found["kernels"]
        facts = []
        if kernels:
            facts.append(f"A copy in the GPU's memory, bytes read and written: "
                         f"{number(kernels['copy_gb_per_s'])} GB/s; putting a kernel into the "
                         f"stream: {number(kernels['launch_us'])} us.")
        if limits:
            facts.append(f"torch {limits['torch']}: a copy {number(limits['copy_gb_per_s'])} GB/s, "
                         f"a product of bf16 matrices {number(limits['bf16_tflops'])} TFLOP/s.")
        return " ".join(facts) + "\n" if facts else ""

    def _lines(self, key):
        return [line for found in self._found["models"].values() for line in found.get(key, [])]

    def _peers(self):
        lines = self._lines("transformers")
        versions = sorted({f"Transformers {each['transformers']}" for each in lines
                           if "transformers" in each})
        ways = sorted({f"B={each['run']['streams']} by {each['how']}" for each in lines
                       if "how" in each})
        return f"{', '.join(versions)}: {'; '.join(ways)}.\n" if ways else ""

    def _notices(self):
        """What Sluice said while it loaded: that it does without something, say."""
        notices = sorted({notice for line in self._lines("sluice")
                          for notice in line.get("notices", [])})
        return "Sluice's notices:\n\n" + "\n".join(f"- {each}" for each in notices) + "\n" if notices else ""

    def _model_rows(self, shape):
        found = self._found["models"][shape]
        for line in found.get("sluice", []):
            if "run" in line:
                yield from self._run_rows(shape, line, found.get("transformers", []))
        for line in found.get("sluice_in_turn", []):
            if "run" in line:
                yield [shape, "decode, B=1, no kernel before the one ahead is done, tokens/s",
                       spread(line["decode_tokens_per_s"]), "", "", "", ""]
        for line in found.get("sluice_fastest_order", []):
            if "run" in line:
                yield self._order_row(shape, line, found.get("sluice", []))
        for line in found.get("sluice_profiled", []):
            yield from self._sampling_rows(shape, line, found.get("sluice", []))
        times = [each["process_s"] for each in found.get("first_token", [])]
        if times:
            yield [shape, "start to first token of a package, s",
                   ", ".join(map(number, times)), "", "", "", ""]

    def _run_rows(self, shape, line, peers):
        run = line["run"]
        prompts = f"{run['prompt_tokens']:,} tokens"
        if run["output_tokens"] == 1:
            yield self._prefill_row(shape, f"prefill of {prompts}, tokens/s", line)
            return
        rate = line["decode_tokens_per_s"]
        limit = self._decode_limit(shape, run)
        peer = next((each["decode_tokens_per_s"] for each in peers
                     if "run" in each and same_run(each["run"], run)), None)
        yield [shape, f"decode, B={run['streams']}, {prompts} of context, tokens/s", spread(rate),
               number(limit) if limit else "", percent(rate["median"] / limit) if limit else "",
               number(peer) if peer else "", f"{rate['median'] / peer:.2f}x" if peer else ""]
        host = line["engine_us"]
        yield [shape, "the same: host time of a step without its model, p50 / p99, us",
               f"{number(host['p50'])} / {number(host['p99'])}", "", "", "", ""]

    def _decode_limit(self, shape, run):
        """Tokens a second that the copy's bandwidth allows for a step's weights and KV cache."""
        if not self._copy:
            return None
        places = run["streams"] * (run["prompt_tokens"] + run["output_tokens"] / 2)
        step_bytes = shapes.weight_bytes(shape) + places * shapes.kv_bytes(shape)
        return run["streams"] * self._copy * 1e9 / step_bytes

    def _prefill_row(self, shape, what, line):
        rate = line["prefill_tokens_per_s"]
        best = self._found["limits"].get("bf16_tflops")
        num_tokens = line["run"]["prompt_tokens"]
        limit = (num_tokens * best * 1e12 / shapes.prefill_flops(shape, num_tokens)
                 if best else None)
        return [shape, what, spread(rate), number(limit) if limit else "",
                percent(rate["median"] / limit) if limit else "", "", ""]

    @staticmethod
    def _order_row(shape, line, others):
        """The rate without the fixed order of sums, and what of it the fixed one loses."""
        run = line["run"]
        is_prefill = run["output_tokens"] == 1
        key = "prefill_tokens_per_s" if is_prefill else "decode_tokens_per_s"
        what = (f"prefill of {run['prompt_tokens']:,} tokens" if is_prefill
                else f"decode, B={run['streams']}, {run['prompt_tokens']:,} tokens of context")
        ours = next((other[key] for other in others
                     if "run" in other and same_run(other["run"], run)), None)
        lost = (f"the fixed order loses {percent(1 - ours['median'] / line[key]['median'])}"
                if ours else "")
        return [shape, f"{what}, sums in the fastest order, tokens/s", spread(line[key]), "", "",
                "", lost]

    def _sampling_rows(self, shape, line, others):
        """Sampling as profiled, by the whole step as it is without a profile."""
        step = next((other["step_ms"]["p50"] for other in others
                     if "run" in other and "run" in line and same_run(other["run"], line["run"])),
                    None)
        for profile in line.get("profiles", []):
            if profile["kind"] == "decode" and step:
                sampling = sum(ms for name, ms in profile["parts_ms"].items() if "sampl" in name)
                yield [shape, f"sampling of a decode step, B={line['run']['streams']}, ms",
                       number(sampling), f"step: {number(step)}", percent(sampling / step), "", ""]

    def _linear(self):
        cells = [each for each in self._found["kernels"].get("linear", []) if "us" in each]
        if not cells:
            return ""
        counts = sorted({each["rows"] for each in cells})
        rows = []
        for name in dict.fromkeys(each["matrix"] for each in cells):
            mine = {each["rows"]: each for each in cells if each["matrix"] == name}
            sizes = next(iter(mine.values()))
            rows.append([f"{name}, {sizes['n']}x{sizes['k']}"]
                        + [self._linear_cell(mine.get(count)) for count in counts])
        return ("Linear layers of Llama 3.1 8B, bf16: GB/s of weights and activations (of the copy's), "
                "or TFLOP/s\n\n" + table(["matrix", *(f"M={count}" for count in counts)], rows))

    @staticmethod
    def _linear_cell(cell):
        if cell is None:
            return ""
        if cell["rows"] <= 64:
            return f"{number(cell['gb_per_s'])} ({percent(cell['of_copy'])})"
        return f"{number(cell['tflops'])} TFLOP/s"

    def _cases(self, key, title):
        rows = [[each["case"], number(each["us"]),
                 f"{number(each['gb_per_s'])} GB/s ({percent(each['of_copy'])} of the copy's)"
                 if "gb_per_s" in each else f"{number(each['tflops'])} TFLOP/s"]
                for each in self._found["kernels"].get(key, []) if "us" in each]
        return f"{title}\n\n{table(['case', 'us', 'rate'], rows)}" if rows else ""

    def _notes(self, key, title):
        notes = list(self._found[key])
        if key == "failed":
            kernels = self._found["kernels"]
            notes += [f"kernel {each['failed']}: {each['error']}"
                      for cases in kernels.values() if isinstance(cases, list)
                      for each in cases if "failed" in each]
        return f"{title}:\n\n" + "\n".join(f"- {note}" for note in notes) + "\n" if notes else ""


def markdown(found):
    return Report(found).text()
