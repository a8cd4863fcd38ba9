"""Who may call `sluice serve`, and how its clients show who they are."""
import hashlib
import pathlib
import tempfile

from support import LLAMA, SMALL, CommandLineTest, running_server, sluice


def key_line(key, rest):
    return f"{hashlib.sha256(key.encode()).hexdigest()} {rest}\n"


class ApiKeyTest(CommandLineTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.keys = pathlib.Path(folder.name) / "keys"

    def test_only_who_has_a_key_is_answered(self):
        self.keys.write_text(key_line("right", "alice"), encoding="utf-8")
        ask = ["--prompt", "a", "--max-tokens", "2"]
        with running_server("--model", LLAMA, *SMALL, "--api-keys", self.keys) as server:
            self.assert_done(server.client("--api-key", "right", *ask))
            self.assert_done(sluice("client", "--target", server.target, *ask,
                                    SLUICE_API_KEY="right"))
            self.assert_done(server.client("--health"))
            for wrong in ([], ["--api-key", "righT"]):
                for action in (ask, ["--list-models"], ["--info"]):
                    self.assert_refused(server.client(*wrong, *action), "API key")
            self.assert_refused(server.client("--api-key", "two words", *ask), "--api-key")
            self.assert_refused(server.client("--api-key", "line\nend", *ask), "--api-key")
            self.assertNotIn("righ", "".join(server.log))

    def test_a_file_that_cannot_be_used_ends_the_start(self):
        start = ["serve", "--model", LLAMA, *SMALL, "--grpc-address", "127.0.0.1:0", "--api-keys"]
        self.assert_refused(sluice(*start, self.keys), "--api-keys: there is no such file")
        self.assert_refused(sluice(*start, self.keys.parent), "--api-keys: it is no regular file")
        self.keys.write_text("# none\n", encoding="utf-8")
        self.assert_refused(sluice(*start, self.keys), "--api-keys: it has no key")
        self.keys.write_text(key_line("k", "a") + "secret b\n", encoding="utf-8")
        outcome = sluice(*start, self.keys)
        self.assert_refused(outcome, "--api-keys: line 2: the first word is not the 64")
        self.assertNotIn("secret", outcome.err)
