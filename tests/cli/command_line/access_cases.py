"""Who may call `sluice serve`, and how its clients show who they are."""
import hashlib
import http.client
import json
import pathlib
import socket
import subprocess
import tempfile

from support import LLAMA, PATIENCE_S, SMALL, CommandLineTest, running_server, sluice


def key_line(key, rest):
    return f"{hashlib.sha256(key.encode()).hexdigest()} {rest}\n"


def ask(server, key, max_tokens=1, stream=False, **headers):
    """The answer to a completion over HTTP."""
    connection = http.client.HTTPConnection(server.http_target, timeout=PATIENCE_S)
    body = {"prompt": "a", "max_tokens": max_tokens, "ignore_eos": True, "stream": stream}
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Content-Type": "application/json", "Authorization": f"Bearer {key}",
                        **headers})
    return connection.getresponse()


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

    def test_a_keys_limit_says_when_to_come_back(self):
        self.keys.write_text(key_line("few", "alice requests_per_minute=2") + key_line("any", "bob"))
        with running_server("--model", LLAMA, *SMALL, "--api-keys", self.keys) as server:
            self.assertEqual(ask(server, "few").status, 200)
            self.assert_done(server.client("--api-key", "few", "--prompt", "a", "--max-tokens", "1"))
            refused = ask(server, "few")
            self.assertEqual(refused.status, 429)
            self.assertGreaterEqual(int(refused.headers["Retry-After"]), 1)
            self.assertLessEqual(int(refused.headers["Retry-After"]), 60)
            outcome = server.client("--api-key", "few", "--prompt", "a")
            self.assertEqual(outcome.code, 1, outcome)
            self.assertIn("requests_per_minute", outcome.err)
            self.assertEqual(ask(server, "any").status, 200)

    def test_ids_belong_to_their_key(self):
        self.keys.write_text(key_line("a", "alice") + key_line("b", "bob"))
        with running_server("--model", LLAMA, *SMALL, "--api-keys", self.keys) as server:
            shared = {"x-request-id": "shared"}
            long = ask(server, "a", max_tokens=200, stream=True, **shared)
            self.assertEqual(ask(server, "a", **shared).status, 409)
            self.assertEqual(ask(server, "b", **shared).status, 200)
            grpc = server.client("--api-key", "b", "--prompt", "a", "--request-id", "shared",
                                 "--max-tokens", "1")
            self.assert_done(grpc)
            self.assertIn(b"[DONE]", long.read())
            self.assertEqual(ask(server, "a", **shared).status, 200)

    def test_two_keys_are_none(self):
        self.keys.write_text(key_line("a", "alice"))
        with running_server("--model", LLAMA, *SMALL, "--api-keys", self.keys) as server:
            connection = http.client.HTTPConnection(server.http_target, timeout=PATIENCE_S)
            connection.putrequest("GET", "/v1/models")
            for _ in range(2):
                connection.putheader("Authorization", "Bearer a")
            connection.endheaders()
            self.assertEqual(connection.getresponse().status, 401)

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


class TlsLoadTest(CommandLineTest):
    """`bench serve` on a server with TLS, by gRPC and by HTTP."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        for name in ("server", "other"):
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                 "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", cls.folder / f"{name}.key",
                 "-out", cls.folder / f"{name}.pem"], check=True, stderr=subprocess.DEVNULL)

    def load(self, target, *flags):
        return sluice("bench", "serve", "--target", target, "--concurrency", "4", "--duration",
                      "300ms", "--prompt-tokens", "8", "--output-tokens", "8", "--json", "--quiet",
                      *flags, SLUICE_API_KEY="right")

    def test_loads_a_server_that_it_trusts(self):
        keys = self.folder / "keys"
        keys.write_text(key_line("right", "alice"), encoding="utf-8")
        trust = ["--tls-ca", self.folder / "server.pem"]
        with running_server("--model", LLAMA, *SMALL, "--api-keys", keys, "--tls-cert",
                            self.folder / "server.pem", "--tls-key",
                            self.folder / "server.key", "--log-format", "json") as server:
            https = f"https://{server.http_target}"
            for target in (server.target, https):
                outcome = self.load(target, *trust)
                self.assert_done(outcome)
                report = json.loads(outcome.out)
                self.assertGreater(report["succeeded"], 3)
                self.assertEqual(report["failed"], 0)
            wrong = ["--tls-ca", self.folder / "other.pem"]
            for flags in (wrong, []):
                self.assert_refused(self.load(https, *flags), "is not trusted", code=1)
            self.assert_refused(self.load(server.target, *wrong), code=1)
            self.assert_refused(self.load(f"http://{server.http_target}", *trust),
                                "TLS needs https://")
            self.assert_refused(self.load("https://127.0.0.1:", *trust), "--target")
            # Handshakes that fail are no lines of OpenSSL's in the log.
            host, port = server.target.split(":")
            with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
                self.assertEqual(plain.recv(1), b"")
            self.assertEqual(server.stop(), 0)
            for line in server.log:
                self.assertIn("message", json.loads(line))
