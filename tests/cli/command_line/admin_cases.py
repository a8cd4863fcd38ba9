"""The admin listener of `sluice serve`: metrics and health, from before loading to the end."""
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from support import (BINARY, LLAMA, PATIENCE_S, SMALL, SOURCE, CommandLineTest, environment,
                     running_server, sluice)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as own:
            own.bind(("::1", 0))
        return True
    except OSError:
        return False


def get(target, path):
    """(status, body, content type)"""
    try:
        with urllib.request.urlopen(f"http://{target}{path}", timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers["Content-Type"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def value(page, series):
    found = re.search("^" + re.escape(series) + " (.*)$", page, re.MULTILINE)
    return float(found.group(1)) if found else None


class AdminTest(CommandLineTest):
    def test_metrics_of_a_real_server_pass_promtool(self):
        with running_server("--model", LLAMA, *SMALL) as server:
            self.assert_done(server.client("--prompt", "Once upon a time", "--max-tokens", "20",
                                           "--ignore-eos", "--n", "2"))
            server.client("--model", "nobody", "--prompt", "a")
            status, page, content_type = get(server.admin_target, "/metrics")
            self.assertEqual(status, 200)
            self.assertTrue(content_type.startswith("text/plain; version=0.0.4"), content_type)
            self.assertEqual(value(page, 'sluice_generated_tokens_total{model="llama-tiny"}'), 40)
            self.assertEqual(value(page, 'sluice_requests_refused_total{code="NOT_FOUND"}'), 1)
            self.assertEqual(
                value(page, 'sluice_requests_finished_total{model="llama-tiny",reason="length"}'), 1)
            self.assertGreater(value(page, "process_resident_memory_bytes"), 1 << 20)
            self.assertEqual(value(page, "sluice_ready"), 1)
            self.assertEqual(value(page, "vllm:num_requests_running"), 0)
            self.check_with_promtool(page)
            # Another scrape has the same families, each named once.
            heads = re.findall("^# TYPE (.*)$", get(server.admin_target, "/metrics")[1], re.MULTILINE)
            self.assertEqual(heads, re.findall("^# TYPE (.*)$", page, re.MULTILINE))
            self.assertEqual(len({head.split()[0] for head in heads}), len(heads))

    def check_with_promtool(self, page):
        if shutil.which("promtool") is None:
            self.skipTest("promtool is not installed")
        done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True,
                              text=True, timeout=PATIENCE_S, check=False)
        # The gateway wants these names, and promtool keeps colons for recording rules.
        complaints = [line for line in done.stderr.splitlines() if not line.startswith("vllm:")]
        self.assertEqual(complaints, [], done)
        self.assertIn(done.returncode, (0, 3), done)

    def test_it_listens_while_models_load(self):
        """Many models load for much longer than it takes to ask a listener that is there first."""
        target = f"127.0.0.1:{free_port()}"
        models = [word for i in range(32) for word in ("--model", f"m{i}={LLAMA}")]
        process = subprocess.Popen(
            [BINARY, "serve", *models, "--kv-cache-memory-bytes", "8MiB", "--grpc-address",
             "127.0.0.1:0", "--http-address", "none", "--admin-address", target],
            stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment())
        try:
            self.wait_for_listener(process, target)
            self.assertEqual(get(target, "/health/startup")[0], 503)
            self.assertEqual(get(target, "/health/ready")[0], 503)
            self.assertEqual(get(target, "/health/live")[0], 200)
            page = get(target, "/metrics")[1]
            self.assertIn("process_cpu_seconds_total", page)
            self.assertNotIn("sluice_ready", page)
            while get(target, "/health/startup")[0] != 200:
                self.assertIsNone(process.poll())
                time.sleep(0.01)
            self.assertEqual(get(target, "/health/ready")[0], 200)
            self.assertEqual(value(get(target, "/metrics")[1], "sluice_ready"), 1)
        finally:
            process.kill()
            process.wait(PATIENCE_S)

    def wait_for_listener(self, process, target):
        host, port = target.split(":")
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and process.poll() is None:
            with socket.socket() as client:
                if client.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.01)
        self.fail("the admin listener does not answer")

    def test_the_images_health_check(self):
        def check(address):
            done = subprocess.run([SOURCE / "deploy" / "health_check"], capture_output=True, text=True, check=False,
                                  timeout=PATIENCE_S, env=environment(SLUICE_ADMIN_ADDRESS=address))
            return done.returncode, done.stdout.strip()
        with running_server("--model", LLAMA, *SMALL, "--lame-duck-time", "1h") as server:
            self.assertEqual(check(server.admin_target), (0, "200"))
            port = server.admin_target.split(":")[1]
            self.assertEqual(check(f"0.0.0.0:{port}"), (0, "200"))
            server.process.send_signal(signal.SIGTERM)
            while get(server.admin_target, "/health/ready")[0] == 200:
                time.sleep(0.01)
            self.assertEqual(check(server.admin_target), (1, "503"))
            server.process.kill()
            server.wait()
            self.assertEqual(check(server.admin_target), (1, ""))
        self.assertEqual(check("none")[0], 1)
        if has_ipv6():
            with running_server("--model", LLAMA, *SMALL, "--admin-address", "[::1]:0") as server:
                self.assertEqual(check(server.admin_target), (0, "200"))

    def test_a_lame_duck_is_not_ready_and_still_serves(self):
        with running_server("--model", LLAMA, *SMALL, "--lame-duck-time", "1h") as server:
            self.assertEqual(get(server.admin_target, "/health/ready")[0], 200)
            server.process.send_signal(signal.SIGTERM)
            while get(server.admin_target, "/health/ready")[0] == 200:
                time.sleep(0.01)
            self.assertEqual(get(server.admin_target, "/health/live")[0], 200)
            self.assertEqual(value(get(server.admin_target, "/metrics")[1], "sluice_ready"), 0)
            self.assertEqual(server.client("--health").out, "NOT_SERVING\n")
            self.assert_done(server.client("--prompt", "a", "--max-tokens", "2"))
            server.process.send_signal(signal.SIGTERM)  # the second one ends at once
            self.assertEqual(server.wait(), 1)

    def test_sigterm_is_lame_duck_then_drain_then_exit_0(self):
        with running_server("--model", LLAMA, *SMALL, "--lame-duck-time", "100ms") as server:
            self.assertEqual(server.stop(), 0)
            log = "".join(server.log)
            self.assertLess(log.index("not ready"), log.index("draining"))
            self.assertLess(log.index("draining"), log.index("drained, bye"))

    def test_addresses(self):
        self.assert_refused(sluice("serve", "--model", LLAMA, "--admin-address", "0.0.0.0:8081"),
                            "--admin-address", "loopback")
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", 0))
            busy.listen()
            address = f"127.0.0.1:{busy.getsockname()[1]}"
            self.assert_refused(sluice("serve", "--model", LLAMA, "--admin-address", address),
                                address)
        with running_server("--model", LLAMA, *SMALL, "--admin-address", "none") as server:
            self.assertIsNone(server.admin_target)
