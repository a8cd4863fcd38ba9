#!/usr/bin/env python3
"""Sluice against its peers on one random checkpoint, in turns, in one run.

Makes a checkpoint of each published shape with random bf16 weights, converts it for everyone, and
checks that Sluice's greedy tokens are Transformers' in float32. Then, for each row: Sluice, the best
peer, Sluice, the best peer, ... with the same number of threads. Prints Markdown with medians,
spreads, ratios and the fraction of the byte limit (weights and KV cache of a step by the read
bandwidth measured in the same turn), and writes JSON. Exits 1 if a goal is missed.

Everything is installed and made on first use, in ignored folders: the peers take 13 GB, the models
of both shapes 25 GB. OpenVINO GenAI and CTranslate2 read the base environment's packages too.

  benchmarks/peers/compare.py --prepare          installs and converts only
  benchmarks/peers/compare.py --minutes 35       the best peer of each row
  benchmarks/peers/compare.py --all              every peer, at every precision it has
  benchmarks/peers/compare.py --shapes bloom-560m --rows b1-int8,b16-int8 --peers llama_cpp
"""

import argparse
import datetime
import json
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import time

import models
import rows
from environments import HERE, Environments, Failed, run
from sides import Peers, Sluice

ROOT = HERE.parents[1]
CHECK_PROMPTS, CHECK_PROMPT_TOKENS, CHECK_NEW_TOKENS = 4, 24, 32


def add_places(parser):
    """What every comparison asks: threads, and where things are read, made and written."""
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--binaries", type=pathlib.Path, default=ROOT / "build" / "bin")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "peers-models",
                        help="folder of the models")
    parser.add_argument("--environments", type=pathlib.Path, default=ROOT / "build" / "peers",
                        help="folder of what is installed of the peers")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here")
    parser.add_argument("--log", type=pathlib.Path, default=ROOT / "build" / "peers.log",
                        help="what peers and conversions write to stderr")


def parse_arguments():
    def names(allowed):
        def parse(text):
            chosen = text.split(",")
            for name in chosen:
                if name not in allowed:
                    raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(allowed)}")
            return chosen
        return parse

    row_names = [row.name for row in rows.ROWS]
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=names(rows.SHAPES), default=list(rows.SHAPES))
    parser.add_argument("--rows", type=names(row_names), default=row_names,
                        help=f"of {', '.join(row_names)}")
    parser.add_argument("--peers", type=names(rows.PEERS), default=list(rows.PEERS),
                        help=f"of {', '.join(rows.PEERS)}")
    parser.add_argument("--best", type=int, default=1, help="peers of each goal [1]")
    parser.add_argument("--all", action="store_true", help="every peer, and rows without a goal")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side [3]")
    parser.add_argument("--minutes", type=float, default=float("inf"),
                        help="begin no turn when so much time is over, without installing")
    parser.add_argument("--prepare", action="store_true", help="install and convert, then end")
    parser.add_argument("--environment", type=pathlib.Path,
                        help="an environment with torch and Transformers that exists already")
    add_places(parser)
    return parser.parse_args()


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


class Measured:
    """One row: figures of every case, round by round, and the read bandwidth before each round."""

    def __init__(self, shape, row, against):
        self.shape = shape
        self.row = row
        self.against = against  # [(goal, its cases)]
        self.figures = {}
        self.bandwidths = []
        self.failures = []

    def cases(self):
        cases = [self.row.ours()]
        for _, rivals in self.against:
            cases += [case for case in rivals if case not in cases]
        return cases

    def drop(self, case, error):
        """Goes on without a rival that failed."""
        self.failures.append(f"{self.shape} {self.row.name}: {case.system} {case.precision} failed")
        print(f"{self.failures[-1]}: {error}", file=sys.stderr)
        self.figures.pop(case, None)
        self.against = [(goal, [rival for rival in rivals if rival != case])
                        for goal, rivals in self.against]

    def measure_round(self, sluice, peers):
        if self.row.workload.kind == "decode":
            self.bandwidths.append(sluice.read_bandwidth())
        for case in self.cases():
            side = sluice if case.system == "sluice" else peers
            try:
                self.figures.setdefault(case, []).append(side.measure(self.shape, case))
            except Failed as error:
                if case.system == "sluice":
                    raise
                self.drop(case, error)

    def limits(self, case):
        """Tokens a second that each round's read bandwidth allows."""
        work = case.workload
        places = work.streams * (work.prompt_tokens + work.long / 2)
        step_bytes = (models.weight_bytes(self.shape, case.precision)
                      + places * models.kv_bytes(self.shape, self.row.kv_bytes))
        return [work.streams * bandwidth / step_bytes for bandwidth in self.bandwidths]

    def fraction(self, case):
        """Median over the rounds of a rate by its limit."""
        pairs = zip(self.figures[case], self.limits(case), strict=True)
        return statistics.median(rate / limit for rate, limit in pairs)

    def ratio(self, case):
        """Median over the rounds of Sluice's figure by a rival's."""
        pairs = zip(self.figures[self.row.ours()], self.figures[case], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)


def choose(shape, row, options):
    """The row with the rivals to measure."""
    against = []
    for goal in row.against:
        if goal.goals is None and not options.all:
            continue
        rivals = [case for case in goal.rivals(shape)
                  if case.system in ("sluice", *options.peers)]
        against.append((goal, rivals if options.all else rivals[:options.best]))
    return Measured(shape, row, against)


def check_greedy_tokens(shape, sluice, made, environments):
    """Ends the program if Sluice's tokens are not Transformers' in float32."""
    source = random.Random(1)
    size = models.vocabulary_size(shape)
    prompts = [[source.randrange(10, size - 10) for _ in range(CHECK_PROMPT_TOKENS)]
               for _ in range(CHECK_PROMPTS)]
    answers = sluice.generate_greedy(made.package(shape, "f32"), prompts, CHECK_NEW_TOKENS)
    made.drop_package(shape, "f32")
    found = json.loads(run(
        [environments.python("transformers"), HERE / "greedy_tokens.py", made.checkpoint(shape)],
        input=json.dumps({"prompts": prompts, "answers": answers}), stderr=subprocess.DEVNULL))
    if found["largest_gap"] > found["bound"]:
        sys.exit(f"{shape}: Sluice's greedy tokens are not Transformers' in f32: {found}")
    print(f"{shape}: {found['equal']} of {found['tokens']} greedy tokens in f32 are Transformers'"
          f" (largest gap of a logit {found['largest_gap']:.1e}, bound {found['bound']:.1e})",
          file=sys.stderr)
    return found


def number(value):
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def spread(values):
    if len(values) == 1:
        return number(values[0])
    return f"{number(statistics.median(values))} ({number(min(values))}–{number(max(values))})"


class Table:
    """Markdown lines, and which goals are missed."""

    def __init__(self):
        self.missed = []
        self._lines = ["| shape | row | Sluice | against | its figure | ratio | of the limit |",
                       "|---|---|---|---|---|---|---|"]

    def add(self, measured):
        """A line for the byte limit and for each rival; goals stand in parentheses."""
        self.missed += measured.failures
        shape, row = measured.shape, measured.row
        idx = rows.SHAPES.index(shape)
        ours = spread(measured.figures[row.ours()])
        if row.limit is not None:
            limit = spread(measured.limits(row.ours()))
            fraction = self._judge(measured, measured.fraction(row.ours()), row.limit[idx], False)
            self._line(shape, row.name, ours, "bytes ÷ bandwidth", limit, "", fraction)
        for goal, rivals in measured.against:
            wanted = None if goal.goals is None else goal.goals[idx]
            for case in rivals:
                ratio = self._judge(measured, measured.ratio(case), wanted, goal.at_most)
                is_decode = case.workload.kind == "decode"
                self._line(shape, row.name, ours, self._name(case),
                           spread(measured.figures[case]), ratio,
                           f"theirs {measured.fraction(case):.2f}" if is_decode else "")

    def text(self):
        return "\n".join(self._lines)

    @staticmethod
    def _name(case):
        work = case.workload
        how = f" B={work.streams} {'sampled' if work.sampled else 'greedy'}"
        return f"{case.system} {case.precision}{how if work.kind == 'decode' else ''}"

    def _judge(self, measured, value, goal, at_most):
        if goal is None:
            return f"{value:.2f}"
        met = value <= goal if at_most else value >= goal
        if not met:
            self.missed.append(f"{measured.shape} {measured.row.name}: {value:.3f}, "
                               f"goal {'≤' if at_most else '≥'} {goal}")
        return f"{'' if met else '**'}{value:.2f}{'' if met else '**'} " \
               f"({'≤' if at_most else '≥'} {goal})"

    def _line(self, *cells):
        self._lines.append(f"| {' | '.join(cells)} |")


def plan(options):
    """The rows of each shape."""
    chosen = [row for row in rows.ROWS if row.name in options.rows]
    return {shape: [choose(shape, row, options) for row in chosen] for shape in options.shapes}


def measure(shape, planned, sluice, peers, options, deadline):
    """Yields each row that was measured, in the order of the plan."""
    for i, measured in enumerate(planned):
        peers.keep_only(shape, [case for later in planned[i:] for case in later.cases()])
        begin = time.monotonic()
        try:
            for _ in range(options.rounds):
                if time.monotonic() > deadline:
                    break
                measured.measure_round(sluice, peers)
        except Failed as error:
            print(f"{shape} {measured.row.name}: {error}", file=sys.stderr)
            continue
        if measured.figures:
            print(f"{shape} {measured.row.name}: {time.monotonic() - begin:.0f} s",
                  file=sys.stderr)
            yield measured


def as_json(measured):
    def case_json(case):
        of = {"system": case.system, "precision": case.precision, "flags": case.flags,
              "workload": vars(case.workload), "figures": measured.figures[case],
              "ratio": measured.ratio(case)}
        if measured.bandwidths:
            of["fraction_of_limit"] = measured.fraction(case)
        return of

    return {"shape": measured.shape, "row": measured.row.name,
            "read_bandwidths": measured.bandwidths,
            "cases": [case_json(case) for case in measured.cases()]}


def is_prepared(measured, made, peers):
    """Installs and converts what is not there, and leaves out the peers where that fails."""
    for case in measured.cases():
        try:
            if case.system == "sluice":
                made.package(measured.shape, case.precision)
            else:
                peers.prepare(measured.shape, case)
        except Failed as error:
            if case.system == "sluice":
                print(f"{measured.shape} {measured.row.name}: {error}", file=sys.stderr)
                return False
            measured.drop(case, error)
    return True


def stop_on_sigterm():
    """So that the peers are ended too."""
    def stop(*_):
        sys.exit(1)

    signal.signal(signal.SIGTERM, stop)


def machine_report(options):
    return {"date": datetime.date.today().isoformat(), "cpu": cpu_model(),
            "threads": options.threads, "rounds": options.rounds, "command": " ".join(sys.argv)}


def compare(options, planned, made, sluice, peers, environments):
    """(table, report) of everything that is planned; the report is written after every row."""
    deadline = time.monotonic() + 60 * options.minutes
    report = {**machine_report(options), "checks": {}, "rows": []}
    table = Table()
    for shape, of_shape in planned.items():
        report["checks"][shape] = check_greedy_tokens(shape, sluice, made, environments)
        for measured in measure(shape, of_shape, sluice, peers, options, deadline):
            table.add(measured)
            report["rows"].append(as_json(measured))
            report["versions"] = {"sluice": sluice.version(), **peers.about}
            report["missed"] = table.missed
            if options.json:
                options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        peers.keep_only(shape, [])
    lost = len(options.rows) * len(options.shapes) - len(report["rows"])
    if lost:
        table.missed.append(f"{lost} rows failed or were out of time")
    return table, report


def show(table, report):
    print(f"{report['cpu']}, {report['threads']} threads, {report['date']}, {report['rounds']} "
          "rounds; tokens per second, first-token in seconds; median (least–most)\n")
    print(table.text())
    for name, about in report.get("versions", {}).items():
        print(f"\n{name}: {about if name == 'sluice' else about['version']}")
    print("\n" + ("\n".join(f"missed: {line}" for line in table.missed) or "every goal is met"))


def main():
    options = parse_arguments()
    stop_on_sigterm()
    environments = Environments(options.environments, options.environment)
    options.log.parent.mkdir(parents=True, exist_ok=True)
    with options.log.open("w", encoding="utf-8") as log:
        made = models.Models(options.work, environments, options.binaries / "sluice", log)
        sluice = Sluice(options.binaries, made, options.threads)
        peers = Peers(environments, made, options.threads, log)
        planned = plan(options)
        try:
            ready = {shape: [measured for measured in of_shape
                             if is_prepared(measured, made, peers)]
                     for shape, of_shape in planned.items()}
            if options.prepare:
                rows_ready = [measured for of_shape in ready.values() for measured in of_shape]
                is_whole = ready == planned and not any(each.failures for each in rows_ready)
                return 0 if is_whole else 1
            table, report = compare(options, ready, made, sluice, peers, environments)
        except Failed as error:
            sys.exit(f"failed: {error}")
        finally:
            peers.stop()
    show(table, report)
    return 1 if table.missed else 0


if __name__ == "__main__":
    sys.exit(main())
