"""Help, version, and wrong use: exit codes and one clear line, before any model is loaded."""
import os
import pty
import re
import subprocess

from support import BINARY, CommandLineTest, environment, in_parallel, sluice

COMMANDS = [["import"], ["generate"], ["chat"], ["serve"], ["client"], ["bench", "offline"],
            ["bench", "serve"], ["doctor"]]

# Words of the command line, and what the line must say.
WRONG_USE = [
    ([], "needs a command"),
    (["genrate"], "did you mean generate?"),
    (["--versoin"], "did you mean --version?"),
    (["frobnicate"], 'unknown command "frobnicate"'),
    (["bench"], "offline"),
    (["bench", "frobnicate"], "offline"),
    (["import"], "HF_DIR PACKAGE"),
    (["import", "only-one"], "HF_DIR PACKAGE"),
    (["import", "a", "b", "c"], 'unexpected argument "c"'),
    (["import", "a", "b", "--dtype", "int3"], "f32, f16, bf16"),
    (["import", "/nonexistent", "/tmp/never-made"], ""),
    (["generate"], "needs --model"),
    (["generate", "--model", "m"], "one of --prompt, --token-ids, --messages and --input"),
    (["generate", "--model", "m", "--prompt", "a", "--token-ids", "1"], "only one of"),
    (["generate", "--model", "m", "--prompt", "a", "--input", "f"], "only one of"),
    (["generate", "--model", "m", "--prompt", "a", "--output", "f"], "--output needs --input"),
    (["generate", "--model", "m", "--input", "/nonexistent"], "--input"),
    (["generate", "--model", "m", "--input", "f", "--timeout", "1s"], "--timeout"),
    (["generate", "--model", "/nonexistent", "--prompt", "a", "--quiet"], ""),
    (["generate", "--prompt"], "--prompt"),
    (["generate", "--max-tokns", "5"], "did you mean --max-tokens?"),
    (["generate", "--max-tokens", "five"], '--max-tokens: "five" is not a whole number'),
    (["generate", "--max-tokens", "1e3"], '--max-tokens: "1e3" is not a whole number'),
    (["generate", "--max-tokens", ""], '--max-tokens: "" is not a whole number'),
    (["generate", "--max-tokens", "9223372036854775808"], "--max-tokens"),
    (["generate", "--seed", "-1"], "--seed"),
    (["generate", "--seed", "18446744073709551616"], "--seed"),
    (["generate", "--seed", "1", "--seed", "2"], "--seed is given 2 times"),
    (["generate", "--temperature", "hot"], '--temperature: "hot" is not a number'),
    (["generate", "--temperature", "1e999"], "--temperature"),
    (["generate", "--token-ids", "1,,2"], "--token-ids"),
    (["generate", "--logit-bias", "1:2"], "--logit-bias"),
    (["generate", "--timeout", "0"], "--timeout"),
    (["generate", "--timeout", "-1s"], "--timeout"),
    (["generate", "--timeout", "5 minutes"], "--timeout"),
    (["generate", "--max-num-seqs", "0"], "--max-num-seqs: 0 is not in the range"),
    (["generate", "--block-size", "0"], "--block-size"),
    (["generate", "--block-size", "8"], "--block-size: \"8\" is not one of 16, 32, 64, 128"),
    (["generate", "--num-threads", "0"], "--num-threads"),
    (["generate", "--max-model-len", "0"], "--max-model-len"),
    (["generate", "--max-num-batched-tokens", "0"], "--max-num-batched-tokens"),
    (["generate", "--kv-cache-memory-bytes", "2XB"], "--kv-cache-memory-bytes"),
    (["generate", "\x1b[31m"], "\\x1b[31m"),
    (["generate", "--model", "m", "--prompt", "a", "--messages", "[]"], "only one of"),
    (["generate", "--model", "m", "--messages", "/nonexistent"], "neither JSON nor a file"),
    (["generate", "--model", "m", "--tools", "[]"], "needs one of"),
    (["generate", "--add-generation-prompt", "maybe"], "--add-generation-prompt"),
    (["generate", "--model", "null", "--quiet", "--messages",
      '[{"role": "user", "content": "Hi"}]'], "no chat template"),
    (["chat"], "needs --model PATH or --target"),
    (["chat", "--target", "nowhere"], "--target"),
    (["chat", "--model", "null", "--quiet"], "no chat template"),
    (["chat", "--prompt", "a"], "--prompt"),
    (["serve"], "needs --model"),
    (["serve", "--model", ""], "--model"),
    (["serve", "--model", "a=null", "--model", "b=null", "--served-model-name", "z"],
     "--served-model-name"),
    (["serve", "--model", "null", "--grpc-address", "0.0.0.0:0"], "--insecure"),
    (["serve", "--model", "null", "--grpc-address", "[::]:0"], "--insecure"),
    (["serve", "--model", "null", "--http-address", "0.0.0.0:0"], "--insecure"),
    (["serve", "--model", "null", "--http-address", "localhost"], "HOST:PORT"),
    (["serve", "--model", "null", "--http-address", "none", "--grpc-address", "none"], "none"),
    (["serve", "--model", "null", "--grpc-address", "localhost"], "HOST:PORT"),
    (["serve", "--model", "null", "--grpc-address", "127.0.0.1:65536"], "port"),
    (["serve", "--model", "null", "--grpc-address", ""], "HOST:PORT"),
    (["serve", "--model", "null", "--max-queued-requests", "0"], "--max-queued-requests"),
    (["serve", "--model", "null", "--max-undelivered-tokens", "0"], "--max-undelivered-tokens"),
    (["serve", "--model", "null", "--max-concurrent-streams", "0"], "--max-concurrent-streams"),
    (["serve", "--model", "null", "--max-request-age", "0s"], "--max-request-age"),
    (["serve", "--model", "null", "--max-n", "0"], "--max-n"),
    (["serve", "--model", "null", "--log-level", "loud"], "--log-level"),
    (["serve", "--model", "/nonexistent", "--quiet"], ""),
    (["client"], "one of --prompt"),
    (["client", "--prompt", "a", "--list-models"], "only one of"),
    (["client", "--target", "nowhere", "--prompt", "a"], "--target"),
    (["bench", "offline"], "needs --model"),
    (["bench", "offline", "--model", "m", "--concurrency", "0"], "--concurrency"),
    (["bench", "offline", "--model", "m", "--concurrency", ""], "--concurrency"),
    (["bench", "offline", "--model", "m", "--top-p", "0"], "--top-p"),
    (["bench", "serve"], "needs --rate"),
    (["bench", "serve", "--rate", "0"], "--rate"),
    (["doctor", "--model", "/nonexistent"], ""),
]


def terminal_output(*arguments, **extra_environment):
    """What the command prints on a terminal."""
    parent, child = pty.openpty()
    with subprocess.Popen([BINARY, *arguments], stdout=child, stderr=child,
                          stdin=subprocess.DEVNULL, env=environment(**extra_environment)):
        os.close(child)
        text = b""
        while True:
            try:
                piece = os.read(parent, 65536)
            except OSError:  # the terminal's other side is closed
                break
            if not piece:
                break
            text += piece
    os.close(parent)
    return text.decode()


class HelpTest(CommandLineTest):
    def test_every_command_has_a_help(self):
        overview = sluice("--help")
        self.assert_done(overview)
        outcomes = in_parallel(lambda command: sluice(*command, "--help"), COMMANDS)
        for command, outcome in zip(COMMANDS, outcomes):
            with self.subTest(command=command):
                self.assertIn("\n  " + " ".join(command) + " ", overview.out)
                self.assert_done(outcome)
                self.assertTrue(outcome.out.startswith("Usage: sluice " + " ".join(command)))
                self.assertIn("Examples:", outcome.out)
                self.assertEqual(outcome.err, "")
                self.assertNotIn("\x1b", outcome.out)
                for line in outcome.out.splitlines():
                    if not line.startswith("  sluice "):
                        self.assertLessEqual(len(line), 100, line)
                flags = re.findall(r"^  (--[a-z-]+)", outcome.out, re.M)
                self.assertEqual(len(flags), len(set(flags)))
                for flag in flags:
                    if flag != "--help":
                        variable = "SLUICE_" + flag[2:].upper().replace("-", "_")
                        self.assertIn("{" + variable + "}", outcome.out)

    def test_version(self):
        outcome = sluice("--version")
        self.assert_done(outcome)
        self.assertRegex(outcome.out, r"^sluice \d+\.\d+\.\d+\n$")

    def test_wrong_use(self):
        outcomes = in_parallel(lambda case: sluice(*case[0]), WRONG_USE)
        for (arguments, part), outcome in zip(WRONG_USE, outcomes):
            with self.subTest(arguments=arguments):
                self.assert_refused(outcome, part)

    def test_environment(self):
        outcome = sluice("generate", "--model", "m", "--prompt", "a", SLUICE_MAX_NUM_SEQS="zero")
        self.assert_refused(outcome, "--max-num-seqs")
        outcome = sluice("generate", SLUICE_MODEL="/nonexistent", SLUICE_PROMPT="a",
                         SLUICE_QUIET="1")
        self.assert_refused(outcome)
        self.assertNotIn("needs --model", outcome.err)

    def test_colours_only_on_a_terminal_and_without_no_color(self):
        self.assertIn("\x1b[1m", terminal_output("--help"))
        self.assertNotIn("\x1b", terminal_output("--help", NO_COLOR="1"))
        self.assertIn("\x1b[31m", terminal_output("frobnicate"))
        self.assertNotIn("\x1b", sluice("frobnicate").err)
