"""`sluice generate` with one prompt."""
import os
import signal
import subprocess
import time

from support import (BINARY, BLOOM, LLAMA, PATIENCE_S, SMALL, CommandLineTest, environment,
                     json_lines, sluice)

PROMPTS = [(LLAMA, "Once upon a time"), (BLOOM, "人工智能的发展正在改变世界")]


def generate(model, *arguments):
    return sluice("generate", "--model", model, *SMALL, "--quiet", *arguments)


class GenerateTest(CommandLineTest):
    def test_text_and_json_agree(self):
        for model, prompt in PROMPTS:
            with self.subTest(model=model.name):
                flags = ["--prompt", prompt, "--max-tokens", 40, "--temperature", 0.7, "--top-p",
                         0.9, "--seed", 5]
                text = generate(model, *flags)
                self.assert_done(text)
                self.assertEqual(text.err, "")
                answer = generate(model, *flags, "--json")
                self.assert_done(answer)
                [line] = json_lines(answer.out)
                self.assertEqual(text.out.rstrip("\n"), line["text"].rstrip("\n"))
                self.assertEqual(list(line)[:6], ["index", "text", "token_ids", "logprobs",
                                                  "finish_reason", "usage"])
                self.assertEqual(line["index"], 0)
                self.assertIsNone(line["logprobs"])
                self.assertIn(line["finish_reason"], ["length", "stop"])
                self.assertEqual(line["usage"]["completion_tokens"], len(line["token_ids"]))
                self.assertGreater(line["usage"]["prompt_tokens"], 0)
                self.assertEqual(line["seed"], 5)

    def test_a_drawn_seed_gives_the_same_answer_again(self):
        flags = ["--prompt", "The", "--max-tokens", 20, "--json"]
        [first] = json_lines(generate(LLAMA, *flags).out)
        [again] = json_lines(generate(LLAMA, *flags, "--seed", first["seed"]).out)
        self.assertEqual(first, again)

    def test_threads_and_chunks_change_no_bit(self):
        flags = ["--prompt", "Once upon a time there was a small", "--max-tokens", 24, "--seed", 9,
                 "--logprobs", 3, "--json"]
        outputs = {generate(LLAMA, *flags, *extra).out
                   for extra in ([], ["--num-threads", 1],
                                 ["--max-num-batched-tokens", 1, "--max-num-seqs", 1],
                                 ["--block-size", 32])}
        self.assertEqual(len(outputs), 1, outputs)

    def test_token_ids_logprobs_echo_and_n(self):
        outcome = generate(LLAMA, "--token-ids", "5,6,7", "--max-tokens", 4, "--n", 3, "--echo",
                           "--logprobs", 2, "--prompt-logprobs", 1, "--ignore-eos", "--json")
        self.assert_done(outcome)
        lines = json_lines(outcome.out)
        self.assertEqual([line["completion"] for line in lines], [0, 1, 2])
        for line in lines:
            self.assertEqual(line["token_ids"][:3], [5, 6, 7])
            self.assertEqual(len(line["token_ids"]), 7)
            self.assertEqual(len(line["logprobs"]), 4)
            self.assertEqual(len(line["prompt_logprobs"]), 3)
            self.assertEqual(line["finish_reason"], "length")
            for place, token_id in zip(line["logprobs"], line["token_ids"][3:]):
                self.assertEqual(place["token_id"], token_id)
                self.assertEqual(len(place["top"]), 2)
                self.assertGreaterEqual(place["top"][0]["logprob"], place["top"][1]["logprob"])

    def test_several_completions_as_text(self):
        outcome = generate(LLAMA, "--prompt", "The", "--max-tokens", 4, "--n", 2)
        self.assert_done(outcome)
        self.assertIn("--- completion 0 (", outcome.out)
        self.assertIn("--- completion 1 (", outcome.out)

    def test_stop_string_is_not_printed(self):
        flags = ["--prompt", "Once upon a time", "--max-tokens", 60, "--temperature", 0]
        whole = generate(LLAMA, *flags).out.rstrip("\n")
        stop = whole[len(whole) // 2:len(whole) // 2 + 3]
        outcome = generate(LLAMA, *flags, "--stop", stop, "--json")
        [line] = json_lines(outcome.out)
        self.assertEqual(line["text"], whole[:whole.index(stop)])
        self.assertEqual(line["finish_reason"], "stop")
        self.assertEqual(line["stop_reason"], stop)

    def test_timeout_fails(self):
        outcome = generate(LLAMA, "--prompt", "The", "--n", 8, "--max-num-batched-tokens", 1,
                           "--max-num-seqs", 1, "--ignore-eos", "--timeout", "20ms")
        self.assertEqual(outcome.code, 1, outcome)

    def test_interrupt_ends_it(self):
        process = subprocess.Popen(
            [BINARY, "generate", "--model", LLAMA, *SMALL, "--prompt", "The", "--n", "8",
             "--max-num-batched-tokens", "1", "--max-num-seqs", "1", "--ignore-eos"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        os.read(process.stdout.fileno(), 1)  # it has begun
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 1, (out, err))
        self.assertIn(b"interrupted", err)

    def test_a_reader_that_leaves_ends_it(self):
        process = subprocess.Popen(
            [BINARY, "generate", "--model", LLAMA, *SMALL, "--prompt", "The", "--ignore-eos"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        os.read(process.stdout.fileno(), 1)
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE_S), 1)
        process.stderr.close()

    def test_null_model(self):
        outcome = generate("null", "--token-ids", "1,2,3", "--max-tokens", 5, "--ignore-eos")
        self.assert_done(outcome)
        self.assertRegex(outcome.out, r"^\d+( \d+){4}\n$")

    def test_streams(self):
        """The first text comes before the last one is made."""
        start = time.monotonic()
        process = subprocess.Popen(
            [BINARY, "generate", "--model", LLAMA, *SMALL, "--prompt", "The", "--ignore-eos",
             "--max-tokens", "300", "--quiet"],
            stdout=subprocess.PIPE, env=environment())
        os.read(process.stdout.fileno(), 1)
        first = time.monotonic() - start
        process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 0)
        self.assertLess(first, time.monotonic() - start)
