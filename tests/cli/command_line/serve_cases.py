"""`sluice serve` and `sluice client` over loopback."""
import concurrent.futures
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

from support import (BINARY, BLOOM, LLAMA, PATIENCE_S, SMALL, CommandLineTest, environment,
                     json_lines, running_server, sluice)

LONG = ["--prompt", "The", "--n", "8", "--ignore-eos"]
SLOW = ["--max-num-batched-tokens", "1", "--max-num-seqs", "1"]


def begin_events(server):
    """The answer to a long streamed request of token ids over HTTP, when it has begun."""
    connection = http.client.HTTPConnection(server.http_target, timeout=PATIENCE_S)
    body = {"prompt": [1, 2], "stream": True, "max_tokens": 400, "ignore_eos": True}
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Content-Type": "application/json"})
    return connection.getresponse()


def is_blocked(process, number):
    """Whether the process takes this signal on a thread of its own by now."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    blocked = next(line for line in status.splitlines() if line.startswith("SigBlk:"))
    return int(blocked.split()[1], 16) >> (number - 1) & 1 == 1


class ServeTest(CommandLineTest):
    def test_client_and_generate_give_the_same_line(self):
        with running_server("--model", LLAMA, "--model", f"zh={BLOOM}", *SMALL) as server:
            for model, name, prompt in ((LLAMA, "llama-tiny", "Once upon a time"),
                                        (BLOOM, "zh", "人工智能的发展正在改变世界")):
                flags = ["--prompt", prompt, "--max-tokens", "50", "--temperature", "0.7",
                         "--top-p", "0.9", "--seed", "3", "--logprobs", "1", "--json"]
                remote = server.client("--model", name, *flags)
                self.assert_done(remote)
                local = sluice("generate", "--model", model, *SMALL, "--quiet", *flags)
                self.assertEqual(json_lines(remote.out), json_lines(local.out))
                text = server.client("--model", name, *flags[:-1])
                self.assertEqual(text.out.rstrip("\n"),
                                 json_lines(remote.out)[0]["text"].rstrip("\n"))
            self.check_information(server)
            self.assertEqual(server.stop(), 0)
            self.assertIn("drained", "".join(server.log))

    def check_information(self, server):
        models = json.loads(server.client("--list-models", "--json").out)["models"]
        self.assertEqual([m["name"] for m in models], ["llama-tiny", "zh"])
        self.assertIn("zh", server.client("--list-models").out)
        info = json.loads(server.client("--info", "--json").out)
        self.assertEqual(info["requests_running"], 0)
        self.assertIn("uptime", server.client("--info").out)
        self.assertEqual(server.client("--health").out, "SERVING\n")
        self.assert_refused(server.client("--prompt", "a"), "model")
        self.assert_refused(server.client("--model", "nobody", "--prompt", "a"), "nobody")

    def test_served_model_name(self):
        with running_server("--model", LLAMA, "--served-model-name", "mine", *SMALL) as server:
            models = json.loads(server.client("--list-models", "--json").out)["models"]
            self.assertEqual([m["name"] for m in models], ["mine"])
            self.assert_done(server.client("--prompt", "a", "--max-tokens", "2"))
            server.process.send_signal(signal.SIGINT)
            self.assertEqual(server.wait(), 0)

    def start_client(self, server, *arguments):
        return subprocess.Popen([BINARY, "client", "--target", server.target, *arguments],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())

    def begin_long_request(self, server):
        process = self.start_client(server, *LONG, "--max-tokens", "60")
        os.read(process.stdout.fileno(), 1)  # the first completion is whole, seven are left
        return process

    def test_sigterm_lets_streams_finish(self):
        with running_server("--model", LLAMA, *SMALL, *SLOW) as server:
            client = self.begin_long_request(server)
            self.assertEqual(server.stop(), 0)
            out, err = client.communicate(timeout=PATIENCE_S)
            self.assertEqual(client.returncode, 0, err)
            self.assertIn(b"--- completion 7 (length)", out)

    def test_the_drain_time_ends_what_is_left(self):
        with running_server("--model", LLAMA, *SMALL, *SLOW, "--drain-time", "0s") as server:
            client = self.begin_long_request(server)
            self.assertEqual(server.stop(), 0)
            err = client.communicate(timeout=PATIENCE_S)[1]
            self.assertEqual(client.returncode, 1, err)
            self.assertEqual(err.count(b"\n"), 1)

    def test_the_drain_time_ends_events_with_the_reason(self):
        with running_server("--model", "null", "--null-step-time", "100ms", "--drain-time",
                            "0s") as server, begin_events(server) as events:
            self.assertEqual(events.status, 200)
            self.assertEqual(server.stop(), 0)
            last = events.read().decode().rstrip("\n").rpartition("data: ")[2]
            self.assertEqual(json.loads(last)["error"]["code"], 503, "the stream says why")

    def test_a_stuck_step_does_not_hold_up_the_end(self):
        with running_server("--model", "null", "--null-step-time", "1h", "--drain-time",
                            "500ms") as server:
            client = self.start_client(server, "--token-ids", "1,2", "--max-tokens", "5")
            with concurrent.futures.ThreadPoolExecutor() as pool:
                events = pool.submit(lambda: begin_events(server).status)
                while self.num_requests(server) < 2:
                    self.assertIsNone(server.process.poll())
                begin = time.monotonic()
                self.assertEqual(server.stop(), 1)
                self.assertLess(time.monotonic() - begin, 30)
                self.assertEqual(events.result(), 503)
            err = client.communicate(timeout=PATIENCE_S)[1]
            self.assertEqual(client.returncode, 1, err)
            self.assertIn(b"shutting down", err)
            self.assertIn("did not come back", "".join(server.log))

    def num_requests(self, server):
        info = json.loads(server.client("--info", "--json").out)
        return info["requests_running"] + info["requests_waiting"]

    def test_stopped_before_it_is_ready(self):
        with tempfile.TemporaryDirectory() as folder:
            pipe = pathlib.Path(folder) / "log"
            os.mkfifo(pipe)  # which nobody reads: the start waits for its log
            process = subprocess.Popen([BINARY, "serve", "--model", "null", "--log-file", pipe],
                                       env=environment())
            while not is_blocked(process, signal.SIGTERM):
                self.assertIsNone(process.poll())
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(PATIENCE_S), 0)

    def test_a_second_signal_ends_at_once(self):
        with running_server("--model", LLAMA, *SMALL, *SLOW, "--drain-time", "1h") as server:
            client = self.begin_long_request(server)
            server.process.send_signal(signal.SIGINT)
            while not any("draining" in line for line in server.log):
                self.assertIsNone(server.process.poll())
            server.process.send_signal(signal.SIGINT)
            self.assertEqual(server.wait(), 1)
            client.communicate(timeout=PATIENCE_S)
            self.assertEqual(client.returncode, 1)

    def test_a_killed_client_leaves_the_server_alone(self):
        with running_server("--model", LLAMA, *SMALL, *SLOW) as server:
            client = self.begin_long_request(server)
            client.kill()
            client.communicate(timeout=PATIENCE_S)
            self.assert_done(server.client("--prompt", "a", "--max-tokens", "2"))
            info = json.loads(server.client("--info", "--json").out)
            self.assertEqual(info["requests_running"], 0)
            self.assertEqual(info["kv_blocks_used"], 0)

    def test_client_timeout(self):
        with running_server("--model", LLAMA, *SMALL, *SLOW) as server:
            outcome = server.client(*LONG, "--timeout", "50ms")
            self.assertEqual(outcome.code, 1, outcome)

    def test_busy_port(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            outcome = sluice("serve", "--model", LLAMA, *SMALL, "--quiet", "--admin-address", "none",
                             "--grpc-address", address)
            self.assert_refused(outcome, str(taken.getsockname()[1]))

    def test_no_server(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            for action in (["--prompt", "a"], ["--list-models"], ["--info"], ["--health"]):
                outcome = sluice("client", "--target", address, *action)
                self.assert_refused(outcome, code=1)
