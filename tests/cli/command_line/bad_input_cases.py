"""Every case of tests/bad_inputs/cases.json, through --input and through `sluice client`'s flags.

After each refusal the process serves on, and neighbours' tokens are those of an undisturbed run.
"""
import json
import pathlib
import tempfile

from support import LLAMA, SMALL, SOURCE, CommandLineTest, in_parallel, json_lines, running_server, sluice

CASES = json.loads((SOURCE / "tests" / "bad_inputs" / "cases.json").read_text(encoding="utf-8"))
NEIGHBOUR = {"prompt": "Once upon a time", "max_tokens": 6, "seed": 77, "logprobs": 1}
STRINGS = ("prompt", "model", "request_id")
LISTS = ("token_ids", "stop_token_ids", "stop", "logit_bias")


def chat_fields(case):
    """The chat of a case as the fields of an --input line."""
    hi = {"role": "user", "content": "Hi"}
    if "chat_messages" in case:
        return {"messages": [hi] * case["chat_messages"]}
    if "chat_content" in case:
        unit, count = case["chat_content"]
        return {"messages": [{"role": "user", "content": unit * count}]}
    if "chat_depth" in case:
        depth = case["chat_depth"]
        return {"messages": RawJson(f'[{{"role": "user", "content": {"[" * depth}{"]" * depth}}}]')}
    if "chat_text" in case:
        return {"messages": RawJson(case["chat_text"])}
    return case.get("chat", {})


class RawJson(str):
    """A text that stands for itself in JSON."""


def line_of(request):
    """The request as a line of --input."""
    return "{" + ", ".join(f"{json.dumps(k)}: {v if isinstance(v, RawJson) else json.dumps(v)}"
                           for k, v in request.items()) + "}"


def expand(case, vocabulary, context):
    """The case's request with what stands for long or model-dependent values put in."""
    request = {**case["request"], **chat_fields(case)}
    for field, (unit, count) in case.get("repeat", {}).items():
        request[field] = unit * count if field in STRINGS else [unit] * count
    for field, offset in case.get("vocabulary_plus", {}).items():
        request[field] = [vocabulary + offset] if field in LISTS else vocabulary + offset
    for field, offset in case.get("context_plus", {}).items():
        request[field] = [1] * (context + offset) if field in LISTS else context + offset
    return request


def is_json(value):
    """False for "NaN" and its like, which no JSON line can hold as a number."""
    if isinstance(value, list):
        return all(map(is_json, value))
    if isinstance(value, dict):
        return all(map(is_json, value.values()))
    return value not in ("NaN", "Infinity", "-Infinity")


def flags(request):
    """The request as flags; None if a command line cannot carry it."""
    words = []
    for field, value in request.items():
        flag = "--" + field.replace("_", "-")
        if field in ("messages", "tools", "chat_template_kwargs"):
            value = value if isinstance(value, RawJson) else json.dumps(value)
        if field in ("add_generation_prompt", "parse_special_tokens"):
            value = str(value).lower()
        if field == "logit_bias":
            value = ",".join(f"{x['token_id']}={x['bias']}" for x in value)
        elif field in ("token_ids", "stop_token_ids"):
            value = ",".join(map(str, value))
        if isinstance(value, bool):
            words += [flag] if value else []
        elif isinstance(value, list):
            words += [word for item in value for word in (flag, item)]
        else:
            words += [flag, str(value)]
    if any("\0" in word or len(word) > 100000 for word in words):
        return None
    return words


class BadInputTest(CommandLineTest):
    def check_message(self, case, message):
        for part in case.get("message_has", []):
            self.assertIn(part, message)
        self.assertLess(len(message), 400)

    def test_every_case_as_a_line_of_input(self):
        with running_server("--model", LLAMA, *SMALL) as server:
            [model] = json.loads(server.client("--list-models", "--json").out)["models"]
        sizes = model["vocabulary_size"], model["context_length"]
        # Lines that are no JSON end the command: tests/cli/flags_test.cpp has those.
        cases = [case for case in CASES
                 if is_json(case["request"]) and "chat_text" not in case
                 and case.get("chat_depth", 0) < 60]
        self.assertGreater(len(cases), 100)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "in.jsonl"
            with path.open("w", encoding="utf-8") as lines:
                for case in cases:
                    for request in (expand(case, *sizes), NEIGHBOUR):
                        lines.write(line_of(request) + "\n")
            outcome = sluice("generate", "--model", LLAMA, *SMALL, "--quiet", "--input", path)
        self.assertEqual(outcome.code, 1, outcome.err)
        answers = {}
        for line in json_lines(outcome.out):
            answers.setdefault(line["index"], []).append(line)
        neighbours = [answers[2 * i + 1][0]["logprobs"] for i in range(len(cases))]
        for i, case in enumerate(cases):
            with self.subTest(case=case["name"]):
                self.assertEqual(neighbours[i], neighbours[0])
                answer = answers[2 * i][0]
                if case["code"] == "OK":
                    self.assertNotIn("error", answer)
                    self.assertGreaterEqual(len(answer["token_ids"]), 1)
                else:
                    self.assertIn("error", answer)
                    self.assertEqual(answer["error"]["code"], case["code"])
                    self.check_message(case, answer["error"]["message"])

    def test_every_refused_case_as_flags(self):
        with running_server("--model", LLAMA, *SMALL) as server:
            [model] = json.loads(server.client("--list-models", "--json").out)["models"]
            sizes = model["vocabulary_size"], model["context_length"]
            words = flags(NEIGHBOUR) + ["--json"]
            undisturbed = server.client(*words).out
            cases = [(case, flags(expand(case, *sizes))) for case in CASES if case["code"] != "OK"]
            cases = [(case, arguments) for case, arguments in cases if arguments is not None]
            self.assertGreater(len(cases), 60)
            outcomes = in_parallel(lambda case: server.client(*case[1]), cases)
            for (case, _), outcome in zip(cases, outcomes):
                with self.subTest(case=case["name"]):
                    self.assert_refused(outcome)
                    self.check_message(case, outcome.err.replace("--token-ids", "token_ids"))
            self.assertEqual(server.client(*words).out, undisturbed)
            self.assertEqual(server.stop(), 0)
