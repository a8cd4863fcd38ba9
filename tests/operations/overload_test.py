#!/usr/bin/env python3
"""Three times what a server can do, against nine tenths of it: overload_test.py BINARY SOURCE_DIR

Over gRPC and HTTP, `sluice bench serve` finds out the capacity in a closed loop, then sends that share of
it in an open one. The refused must know soon, and the accepted must not feel the others.

    SLUICE_TEST_OVERLOAD     (default)                        goals, for a machine without other work
    until refused, p99       1 s                              10 ms
    between messages, p99    three times and 200 ms up        a fifth up
    each load                3 s                              20 s

The default's bounds are what a busy machine keeps; server and client share its cores.
"""
import json
import os
import pathlib
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
BINARY, SOURCE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
os.environ.update(SLUICE_BINARY=str(BINARY), SLUICE_SOURCE_DIR=str(SOURCE))
sys.path.insert(0, str(SOURCE / "tests" / "cli" / "command_line"))
from support import PATIENCE_S, environment, running_server  # noqa: E402

HAS_GOALS = os.environ.get("SLUICE_TEST_OVERLOAD") == "goals"
LOAD_S = 20 if HAS_GOALS else 3
MAX_REFUSAL_MS = 10 if HAS_GOALS else 1000
NUM_PLACES = 32  # running, and as many waiting
STEP_MS = 5
OUTPUT_TOKENS = 50


def max_gap_ms(calm_ms):
    return 1.2 * calm_ms if HAS_GOALS else 3 * calm_ms + 200


def load(target, *flags):
    """The report of `bench serve`, which exits 1 when requests were refused."""
    done = subprocess.run(
        [BINARY, "bench", "serve", "--target", target, "--duration", f"{LOAD_S}s", "--prompt-tokens", "16",
         "--output-tokens", str(OUTPUT_TOKENS), "--max-in-flight", "100000", "--json", "--quiet", *flags],
        capture_output=True, text=True, timeout=PATIENCE_S, env=environment(), check=False)
    return json.loads(done.stdout)


class OverloadTest(unittest.TestCase):
    def check(self, target):
        full = load(target, "--concurrency", str(2 * NUM_PLACES))
        capacity = full["succeeded"] / full["seconds"]
        calm = load(target, "--rate", str(0.9 * capacity))
        over = load(target, "--rate", str(3 * capacity))
        for share, report in ((0.9, calm), (3, over)):
            gaps, refusals = (" / ".join(f"{report[name][q]:.2f}" for q in ("p50", "p99"))
                              for name in ("itl_ms", "refusal_ms"))
            print(f"{target}, {share} of {capacity:.0f} requests/s: {report['succeeded']} answered, "
                  f"{report['refused']} refused; p50 / p99 between messages {gaps} ms, until refused "
                  f"{refusals} ms", flush=True)
            self.assertEqual((report["failed"], report["dropped"]), (report["refused"], 0))
        self.assertGreater(over["refused"], over["succeeded"])
        # Refusing does not cost what is served: all of the capacity, but for the beginning and the end.
        self.assertGreater(over["succeeded"], 0.6 * capacity * LOAD_S)
        self.assertLess(over["refusal_ms"]["p99"], MAX_REFUSAL_MS)
        self.assertLess(over["itl_ms"]["p99"], max_gap_ms(calm["itl_ms"]["p99"]))

    def test_overload(self):
        with running_server("--model", "null", "--null-step-time", f"{STEP_MS}ms", "--max-num-seqs",
                            NUM_PLACES, "--max-queued-requests", NUM_PLACES) as server:
            with self.subTest("gRPC"):
                self.check(server.target)
            with self.subTest("HTTP"):
                self.check(f"http://{server.http_target}")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
