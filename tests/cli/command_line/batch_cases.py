"""`sluice generate --input`: batches, and the files they leave after an interrupt."""
import json
import pathlib
import signal
import subprocess
import tempfile
import time

from support import (BINARY, BLOOM, LLAMA, PATIENCE_S, SMALL, CommandLineTest, environment,
                     json_lines, sluice)


def request(i):
    """A mix of lengths, samplings and completions; everything has its own seed."""
    line = {"prompt": ["Once", "The moon", "人工智能", "a b c"][i % 4] + " " * (i % 3),
            "max_tokens": 5 + 37 * i % 120, "seed": i, "ignore_eos": True}
    if i % 3 == 0:
        line["temperature"] = 0
    if i % 5 == 0:
        line |= {"top_p": 0.8, "top_k": 30, "logprobs": 2}
    if i % 7 == 0:
        line["n"] = 3
    return line


class BatchTest(CommandLineTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.input = self.folder / "in.jsonl"

    def write(self, *lines):
        text = "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines)
        self.input.write_text(text, encoding="utf-8")

    def command(self, *arguments, model=LLAMA):
        return ["generate", "--model", str(model), *SMALL, "--quiet", "--input", str(self.input),
                *map(str, arguments)]

    def test_a_line_in_a_crowd_is_the_line_alone(self):
        for model in (LLAMA, BLOOM):
            with self.subTest(model=model.name):
                self.write(*(request(i) for i in range(24)))
                outcome = sluice(*self.command(model=model))
                self.assert_done(outcome)
                lines = json_lines(outcome.out)
                order = [line["index"] for line in lines]
                self.assertEqual(order, sorted(order))
                self.assertEqual(set(order), set(range(24)))
                for i in (0, 5, 7, 22):
                    self.write(request(i))
                    alone = json_lines(sluice(*self.command(model=model)).out)
                    crowd = [line for line in lines if line["index"] == i]
                    for line in crowd:
                        line["index"] = 0
                    self.assertEqual(alone, crowd)

    def test_interrupt_and_resume(self):
        self.write(*(request(i) for i in range(60)))
        whole = self.folder / "whole.jsonl"
        self.assert_done(sluice(*self.command("--output", whole)))
        for name in ("SIGINT", "SIGTERM", "SIGKILL"):
            with self.subTest(signal=name):
                output = self.folder / (name + ".jsonl")
                arguments = self.command("--output", output, "--max-num-seqs", 2)
                process = subprocess.Popen([BINARY, *arguments], env=environment(),
                                           stderr=subprocess.PIPE)
                deadline = time.monotonic() + PATIENCE_S
                while not output.exists() or output.stat().st_size < 2000:
                    self.assertIsNone(process.poll())
                    self.assertLess(time.monotonic(), deadline)
                    time.sleep(0.005)
                process.send_signal(getattr(signal, name))
                err = process.communicate(timeout=PATIENCE_S)[1]
                self.assertEqual(process.returncode, -9 if name == "SIGKILL" else 1, err)
                self.assertLess(output.stat().st_size, whole.stat().st_size)
                if name != "SIGKILL":
                    self.assertIn(b"goes on from here", err)
                with output.open("ab") as cut:
                    cut.write(b'{"index": 3, "te')
                self.assert_done(sluice(*arguments))
                self.assertEqual(output.read_bytes(), whole.read_bytes())

    def test_nothing_left_to_do(self):
        self.write(request(1))
        output = self.folder / "out.jsonl"
        self.assert_done(sluice(*self.command("--output", output)))
        before = output.read_bytes()
        self.assert_done(sluice(*self.command("--output", output)))
        self.assertEqual(output.read_bytes(), before)

    def test_an_output_of_something_else_is_kept(self):
        self.write(request(1))
        output = self.folder / "out.jsonl"
        output.write_text("my diary\n")
        self.assert_refused(sluice(*self.command("--output", output)), "--output", "line 1")
        self.assertEqual(output.read_text(), "my diary\n")

    def test_output_that_cannot_be_written(self):
        self.write(request(1))
        outcome = sluice(*self.command("--output", self.folder / "no" / "folder"))
        self.assert_refused(outcome, "--output")

    def test_flags_are_the_lines_defaults(self):
        self.write({"prompt": "The"}, {"prompt": "The", "max_tokens": 2})
        outcome = sluice(*self.command("--max-tokens", 4, "--ignore-eos", "--temperature", 0))
        counts = [len(line["token_ids"]) for line in json_lines(outcome.out)]
        self.assertEqual(counts, [4, 2])

    def test_a_refused_line_fails_alone(self):
        good = {"prompt": "The", "max_tokens": 4, "seed": 1}
        self.write(good, good | {"temperature": -1}, good)
        outcome = sluice(*self.command())
        self.assertEqual(outcome.code, 1, outcome)
        lines = json_lines(outcome.out)
        self.assertEqual(lines[1]["index"], 1)
        self.assertEqual(lines[1]["error"]["code"], "INVALID_ARGUMENT")
        self.assertIn("temperature", lines[1]["error"]["message"])
        self.assertEqual(lines[0]["token_ids"], lines[2]["token_ids"])
        self.assertIn("1 of 3 requests failed", outcome.err)

    def test_a_mistake_in_a_line_is_found_before_any_work(self):
        cases = ["{", "[]", "null", '{"prompt": "a"} {}', '{"prompt": "a", "prompt": "b"}',
                 '{"prompt": "a", "grammar": "x"}', '{"prompt": "a", "max_token": 1}',
                 '{"prompt": "a", "temperature": NaN}', '{"prompt": "a", "temperature": 1e999}',
                 '{"prompt": "a", "seed": 1.5}', '{"prompt": "\\ud800"}', '{"prompt": 5}',
                 "[" * 10000 + "]" * 10000, '{"logit_bias": {"1": 2}}']
        for case in cases:
            with self.subTest(case=case[:40]):
                self.write(request(0), "", case)
                self.assert_refused(sluice(*self.command()), "in.jsonl:3: ")
        self.input.write_bytes(b'{"prompt": "\xff"}\n')
        self.assert_refused(sluice(*self.command()), "in.jsonl:1: ")
        self.input.write_bytes(b"{" * (33 << 20))
        self.assert_refused(sluice(*self.command()), "in.jsonl:1: ", "longer than")

    def test_an_empty_file_is_done(self):
        self.input.write_bytes(b"")
        outcome = sluice(*self.command())
        self.assert_done(outcome)
        self.assertEqual(outcome.out, "")
