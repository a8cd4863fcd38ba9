"""Chats: `sluice chat` over lines and over a terminal, --messages, and `messages` in --input lines."""
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import subprocess
import tempfile
import time

from hugging_face import write_llama
from support import (BINARY, BLOOM, LLAMA, PATIENCE_S, SMALL, CommandLineTest, environment,
                     json_lines, running_server, sluice)

# By Transformers' apply_chat_template over the same packages (LlamaTokenizer, BloomTokenizerFast).
MESSAGES = [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "人工智能 </s> now?"}]
IDS = {
    LLAMA: [1, 2584, 2416, 277, 378, 2416, 2433, 2438, 13, 13, 2681, 2422, 266, 2659, 643, 2420, 13,
            2468, 2422, 2422, 374, 485, 2659, 643, 1254, 2419, 3251, 2, 13, 2681, 2422, 266, 2659,
            1641, 1500, 2415, 2, 1484, 2907, 13, 2468, 2422, 2422, 374, 485, 2659],
    BLOOM: [37, 72, 295, 558, 3525, 17, 202, 202, 56, 86, 279, 29, 1304, 76, 202, 36, 86, 86, 539,
            800, 29, 1304, 2052, 82, 4, 2, 202, 56, 86, 279, 29, 224, 2142, 2402, 224, 2, 2358, 34,
            202, 36, 86, 86, 539, 800, 29],
}
GREEDY = ["--temperature", 0, "--max-tokens", 8]
END = 2  # "</s>" of both


def chat(lines, *arguments, **popen):
    process = subprocess.run(
        [BINARY, "chat", *map(str, arguments)], input=lines, capture_output=True, text=True,
        timeout=PATIENCE_S, env=environment(), check=False, **popen)
    return process


def write_slow_model(folder):
    """Random weights, large enough for an answer to take seconds."""
    write_llama(folder, seed=1, hidden=512, layers=8, heads=8, kv_heads=8, vocabulary=4096,
                intermediate=1024)
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = 4096
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.model", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(LLAMA / name, folder / name)
    return folder


def answer_ids(model, *arguments):
    outcome = sluice("generate", "--model", model, *SMALL, "--quiet", *GREEDY, "--json", *arguments)
    [line] = json_lines(outcome.out)
    return line


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *arguments):
        master, slave = pty.openpty()
        self.process = subprocess.Popen([BINARY, *map(str, arguments)], stdin=slave, stdout=slave,
                                        stderr=slave, env=environment(NO_COLOR="1"),
                                        start_new_session=True, preexec_fn=self.take_terminal)
        os.close(slave)
        self.fd = master
        self.seen = ""

    @staticmethod
    def take_terminal():
        import fcntl
        import termios
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def wait_for(self, words):
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.seen:
            if time.monotonic() > deadline:
                raise AssertionError(f"no {words!r} in {self.seen!r}")
            if not select.select([self.fd], [], [], 1)[0]:
                continue
            try:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError as error:
                raise AssertionError(f"ended without {words!r}: {self.seen!r}") from error
        self.seen = self.seen[self.seen.index(words) + len(words):]

    def wait_for_more(self):
        """Until anything is written."""
        while not self.seen:
            self.seen += os.read(self.fd, 65536).decode(errors="replace")

    def type(self, text):
        os.write(self.fd, text.encode())

    def finish(self):
        code = self.process.wait(PATIENCE_S)
        os.close(self.fd)
        return code


class ChatTest(CommandLineTest):
    def test_ids_are_those_of_transformers(self):
        for model, ids in IDS.items():
            with self.subTest(model=model.name):
                line = answer_ids(model, "--messages", json.dumps(MESSAGES), "--echo")
                self.assertEqual(line["token_ids"][:len(ids)], ids)
                self.assertEqual(line["usage"]["prompt_tokens"], len(ids))
                same = answer_ids(model, "--token-ids", ",".join(map(str, ids)))
                self.assertEqual(line["token_ids"][len(ids):], same["token_ids"])

    def test_messages_from_a_file_and_kept_plain(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "messages.json"
            path.write_text(json.dumps(MESSAGES), encoding="utf-8")
            from_file = answer_ids(LLAMA, "--messages", path, "--echo")
            plain = answer_ids(LLAMA, "--messages", path, "--echo", "--parse-special-tokens",
                               "false")
        self.assertEqual(from_file["token_ids"].count(END), 2)
        self.assertEqual(plain["token_ids"].count(END), 1, "only the template's own is left")

    def test_lines_of_input_and_a_server_answer_alike(self):
        flags = ["--messages", json.dumps(MESSAGES)]
        alone = answer_ids(LLAMA, *flags)
        requests = [{"messages": MESSAGES}, {"prompt": "Once"},
                    {"messages": MESSAGES[:2] + [{"role": "assistant", "content": "The"}],
                     "continue_final_message": True}]
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "in.jsonl"
            path.write_text("".join(json.dumps(r) + "\n" for r in requests), encoding="utf-8")
            lines = json_lines(sluice("generate", "--model", LLAMA, *SMALL, "--quiet", *GREEDY,
                                      "--input", path).out)
        self.assertEqual(lines[0]["token_ids"], alone["token_ids"])
        self.assertEqual(len(lines), 3)
        self.assertNotIn("error", lines[2])
        with running_server("--model", LLAMA, *SMALL) as server:
            outcome = server.client(*flags, *GREEDY, "--json")
            self.assert_done(outcome)
            self.assertEqual(json_lines(outcome.out)[0]["token_ids"], alone["token_ids"])
            [model] = json.loads(server.client("--list-models", "--json").out)["models"]
            self.assertTrue(model["has_chat_template"])

    def test_the_first_turn_is_the_answer_to_its_messages(self):
        expected = answer_ids(LLAMA, "--messages", json.dumps(
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]))
        done = chat("Hi\n", "--model", LLAMA, *SMALL, "--quiet", *GREEDY, "--system", "Be brief.")
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(done.stdout.rstrip("\n"), expected["text"].rstrip("\n"))
        self.assertEqual(done.stderr, "")

    def test_later_turns_see_the_earlier_ones(self):
        """Here and through a server, the conversation so far is the prompt."""
        def turn(history):
            return answer_ids(LLAMA, "--messages", json.dumps(history))["text"]
        history = [{"role": "user", "content": "Once upon a time"}]
        first = turn(history)
        history += [{"role": "assistant", "content": first}, {"role": "user", "content": "And?"}]
        second = turn(history)
        expected = [text.rstrip("\n") for text in (first, second, first)]
        lines = "Once upon a time\n\n  \nAnd?\n/reset\nOnce upon a time\n/quit\nnever said\n"
        done = chat(lines, "--model", LLAMA, *SMALL, "--quiet", *GREEDY)
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(done.stdout, "".join(text + "\n" for text in expected))
        with running_server("--model", LLAMA, *SMALL) as server:
            remote = chat(lines, "--target", server.target, "--quiet", *GREEDY)
            self.assertEqual((remote.returncode, remote.stdout), (0, done.stdout), remote)

    def test_commands(self):
        lines = "/help\n/system Be brief.\n/frobnicate\n//x\n/reset\n"
        done = chat(lines, "--model", LLAMA, *SMALL, *GREEDY)
        self.assertIn("/reset", done.stderr)
        self.assertIn("new instructions", done.stderr)
        self.assertIn('unknown command "/frobnicate"', done.stderr)
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stdout.count("\n"), 1, "one message, one answer")

    def test_a_full_context_is_said_and_the_chat_goes_on(self):
        lines = "word " * 200 + "\nHi\n"
        done = chat(lines, "--model", LLAMA, *SMALL, "--quiet", "--max-model-len", 64, *GREEDY)
        self.assertEqual(done.returncode, 2, done)
        self.assertIn("limit is 64 (--max-model-len)", done.stderr)
        self.assertIn("/reset", done.stderr)
        self.assertNotEqual(done.stdout.strip(), "", "the second message is answered")
        full = chat("Hi\n", "--model", LLAMA, *SMALL, "--max-model-len", 64, "--temperature", 0,
                    "--ignore-eos")
        self.assertIn("the context is full", full.stderr)

    def test_a_broken_template_takes_away_chats_and_not_the_model(self):
        with tempfile.TemporaryDirectory() as folder:
            model = write_llama(pathlib.Path(folder) / "broken", seed=1, vocabulary=4096)
            for name in ("tokenizer.model", "tokenizer_config.json"):
                shutil.copy(LLAMA / name, model / name)
            (model / "chat_template.jinja").write_text("\n{% for m in messages %}")
            self.assert_done(sluice("generate", "--model", model, *SMALL, "--prompt", "Hi",
                                    "--max-tokens", 2))
            self.assert_refused(
                sluice("generate", "--model", model, *SMALL, "--quiet", "--messages",
                       json.dumps(MESSAGES)),
                "the model's chat template cannot be used: chat_template.jinja", "line 2")
            outcome = chat("Hi\n", "--model", model, *SMALL)
            self.assertEqual(outcome.returncode, 2, outcome)
            self.assertIn("no chats: chat_template.jinja", outcome.stderr)

    def test_a_server_that_is_gone(self):
        done = chat("Hi\n", "--target", "127.0.0.1:1")
        self.assertEqual(done.returncode, 1, done)
        self.assertEqual(done.stdout, "")

    def test_on_a_terminal(self):
        """Ctrl-C stops the answer and not the program; Ctrl-D ends it."""
        with tempfile.TemporaryDirectory() as folder:
            model = write_slow_model(pathlib.Path(folder) / "slow")
            terminal = Terminal("chat", "--model", model, "--num-threads", 1, "--ignore-eos",
                                "--kv-cache-memory-bytes", "256MiB", "--seed", 1)
            terminal.wait_for("slow, a context of 4,096 tokens; /help lists the commands")
            terminal.wait_for("> ")
            terminal.type("never sent\x03")
            terminal.wait_for("(Ctrl-D ends) > ")
            for _ in range(2):
                terminal.type("Hi\n")
                terminal.wait_for("Hi\r\n")
                terminal.wait_for_more()
                terminal.type("\x03")
                terminal.wait_for("(stopped)\r\n> ")
            terminal.type("/help\n")
            terminal.wait_for("/system TEXT")
            terminal.wait_for("> ")
            terminal.type("\x04")
            self.assertEqual(terminal.finish(), 0)

    def test_a_second_interrupt_ends_it(self):
        with tempfile.TemporaryDirectory() as folder:
            model = write_slow_model(pathlib.Path(folder) / "slow")
            process = subprocess.Popen(
                [BINARY, "chat", "--model", model, "--num-threads", "1", "--ignore-eos"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=environment())
            process.stdin.write(b"Hi\n")
            process.stdin.flush()
            self.assertTrue(process.stdout.read(1))
            process.send_signal(signal.SIGINT)  # stops the answer; then it waits for a line
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(PATIENCE_S), 1)
            process.stdin.close()
            process.stdout.close()
