"""The log of `sluice serve`: formats, files, lost lines, ids of requests and traces."""
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.request

from admin_cases import free_port, get, value
from support import BINARY, LLAMA, PATIENCE_S, SMALL, CommandLineTest, environment, running_server

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def complete(target, **headers):
    body = {"prompt": "A secret prompt", "max_tokens": 3, "ignore_eos": True}
    request = urllib.request.Request(
        f"http://{target}/v1/completions", json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


class LogTest(CommandLineTest):
    @contextlib.contextmanager
    def server(self, *arguments, stderr=subprocess.DEVNULL):
        """A server whose log goes elsewhere; yields (process, HTTP target, admin target)."""
        http, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        process = subprocess.Popen(
            [BINARY, "serve", "--model", LLAMA, *SMALL, "--grpc-address", "none", "--http-address",
             http, "--admin-address", admin, *arguments],
            stderr=stderr, stdin=subprocess.DEVNULL, env=environment())
        try:
            self.wait_for(lambda: process.poll() is not None or self.is_ready(admin))
            self.assertIsNone(process.poll(), "the server did not start")
            yield process, http, admin
        finally:
            process.kill()
            process.wait(PATIENCE_S)

    def is_ready(self, admin):
        try:
            return get(admin, "/health/ready")[0] == 200
        except OSError:
            return False

    def wait_for(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), end, "waited in vain")
            time.sleep(0.02)

    def requests_in(self, path):
        lines = [json.loads(line) for line in read(path).splitlines()]
        return [line for line in lines if line["message"] == "request"]

    def test_json_lines_carry_ids_and_no_text(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "log")
            with self.server("--log-format", "json", "--log-file", path) as (process, http, _):
                complete(http, **{"x-request-id": "mine", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
                complete(http, **{"x-request-id": "other", "traceparent": "00-wrong"})
                self.wait_for(lambda: len(self.requests_in(path)) == 2)
                mine, other = self.requests_in(path)
                self.assertEqual((mine["id"], mine["trace_id"]), ("mine", TRACE))
                self.assertEqual(mine["model"], "llama-tiny")
                self.assertEqual(mine["completion_tokens"], 3)
                self.assertEqual(mine["finish_reason"], "length")
                self.assertEqual(other["id"], "other")
                self.assertNotIn("trace_id", other)
                self.assertNotIn("secret", read(path))
                # Moved away, as logrotate does: the next line begins a new file.
                os.rename(path, path + ".1")
                process.send_signal(signal.SIGHUP)
                self.wait_for(lambda: os.path.exists(path))
                complete(http, **{"x-request-id": "third"})
                self.wait_for(lambda: len(self.requests_in(path)) == 1)
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(PATIENCE_S), 0)
                self.assertIn("drained, bye", read(path))

    def test_text_lines(self):
        with running_server("--model", LLAMA, *SMALL) as server:
            complete(server.http_target, **{"x-request-id": "mine"})
            self.wait_for(lambda: any(" info: request " in line for line in server.log))
            line = next(line for line in server.log if " info: request " in line)
            self.assertIn('id="mine" model="llama-tiny"', line)

    def test_a_full_disk_stops_nobody_and_is_counted(self):
        with self.server("--log-file", "/dev/full") as (_, http, admin):
            self.assertEqual(len(complete(http)["choices"]), 1)
            self.wait_for(lambda: value(get(admin, "/metrics")[1], "sluice_log_lines_lost_total") > 1)
            self.assertEqual(len(complete(http)["choices"]), 1)

    def test_a_reader_that_left_stops_nobody(self):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            with self.server(stderr=writer) as (process, http, admin):
                self.assertEqual(len(complete(http)["choices"]), 1)
                self.assertGreater(value(get(admin, "/metrics")[1], "sluice_log_lines_lost_total"), 0)
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(PATIENCE_S), 0)
        finally:
            os.close(writer)

    def test_a_file_that_cannot_be_opened(self):
        done = subprocess.run([BINARY, "serve", "--model", LLAMA, "--log-file", "/no/such/folder/log"],
                              capture_output=True, text=True, timeout=PATIENCE_S, check=False,
                              env=environment())
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stderr.count("\n"), 1)
        self.assertIn("/no/such/folder/log", done.stderr)
