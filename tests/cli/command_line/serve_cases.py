"""`sluice serve` and `sluice client` over loopback."""
import json
import os
import signal
import socket
import subprocess

from support import (BINARY, BLOOM, LLAMA, PATIENCE_S, SMALL, CommandLineTest, environment,
                     json_lines, running_server, sluice)

LONG = ["--prompt", "The", "--n", "8", "--ignore-eos"]
SLOW = ["--max-num-batched-tokens", "1", "--max-num-seqs", "1"]


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

    def begin_long_request(self, server):
        process = subprocess.Popen([BINARY, "client", "--target", server.target, *LONG,
                                    "--max-tokens", "60"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=environment())
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
