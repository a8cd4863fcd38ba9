#!/usr/bin/env python3
"""What an open stream costs a server: open_streams_test.py BINARY SOURCE_DIR

2,000 streams are open at once, and resident memory may have grown by 40 KiB for each: over HTTP with a
connection each, and over gRPC, where `sluice bench serve` has four connections for all.
"""
import os
import pathlib
import re
import resource
import subprocess
import sys
import time
import unittest
import urllib.request

sys.dont_write_bytecode = True
BINARY, SOURCE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
os.environ.update(SLUICE_BINARY=str(BINARY), SLUICE_SOURCE_DIR=str(SOURCE))
sys.path.insert(0, str(SOURCE / "tests" / "cli" / "command_line"))
from support import PATIENCE_S, environment, running_server  # noqa: E402

NUM_STREAMS = 2000
MAX_KIB = 40
NEEDED_DESCRIPTORS = NUM_STREAMS + 300


def resident_kib(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1])


def num_running(server):
    with urllib.request.urlopen(f"http://{server.admin_target}/metrics", timeout=PATIENCE_S) as answer:
        found = re.search(r"^sluice_sequences_running\S* (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0


class OpenStreamsTest(unittest.TestCase):
    def check(self, http):
        """On a server of its own: what one load has left behind is not the next one's."""
        with running_server("--model", "null", "--null-step-time", "200ms", "--max-num-seqs", NUM_STREAMS,
                            "--max-num-batched-tokens", 4 * NUM_STREAMS,
                            "--max-queued-requests", NUM_STREAMS) as server:
            before = resident_kib(server.process)
            target = f"http://{server.http_target}" if http else server.target
            client = subprocess.Popen(
                [BINARY, "bench", "serve", "--target", target, "--concurrency", str(NUM_STREAMS),
                 "--duration", "1s", "--prompt-tokens", "4", "--output-tokens", "3000", "--quiet"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
            self.addCleanup(client.wait)
            self.addCleanup(client.kill)
            end = time.monotonic() + PATIENCE_S
            while num_running(server) < NUM_STREAMS:
                self.assertLess(time.monotonic(), end)
                self.assertIsNone(client.poll())
                time.sleep(0.1)
            time.sleep(1)  # some tokens further
            kib = (resident_kib(server.process) - before) / NUM_STREAMS
            self.assertIsNone(client.poll())
            client.kill()  # which ends its streams
            print(f"{kib:.1f} KiB a stream", flush=True)
            self.assertLess(kib, MAX_KIB)
            self.assertEqual(server.stop(), 0)

    def test_http(self):
        self.check(http=True)

    def test_grpc(self):
        self.check(http=False)


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < NEEDED_DESCRIPTORS:
        print(f"skipped: a process may open {hard} files, {NEEDED_DESCRIPTORS} are needed")
        sys.exit(77)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    unittest.main(argv=sys.argv[:1], verbosity=2)
