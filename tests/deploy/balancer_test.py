#!/usr/bin/env python3
"""Three replicas behind real nginx, HAProxy and Envoy, in network namespaces: restarts, a death, spread.

balancer_test.py BINARY SOURCE_DIR [unittest arguments]. Exits 77 where it cannot run (no root).
By default one way to balance behind each program, with bounds that hold on a machine with other work.
SLUICE_TEST_BALANCERS=all, for a machine without: both ways, the tight bounds, and Envoy, which
scripts/setup --all-tests installs.
"""
import json
import os
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True

import balancer_case  # noqa: E402
import balancers  # noqa: E402
import network  # noqa: E402
from replicas import ADMIN_PORT, PATIENCE_S  # noqa: E402

IS_ALL = os.environ.get("SLUICE_TEST_BALANCERS") == "all"
NUM_STREAMS = 64
MAX_TOKENS = 128
NUM_SAMPLES = 30
AT_ONCE_S = 2.0 if IS_ALL else 30.0  # far below every time-out in the way: nobody waited for one
# Of the mean. The replicas are asked one after the other, so a busy machine blurs the samples.
SPREAD = 0.2 if IS_ALL else 0.5


class BalancerTest(balancer_case.BalancerCase):
    def check(self, balancer_type, port):
        is_by_request = port == balancers.BY_REQUEST
        with self.behind(balancer_type, balancers.with_addresses):
            self.set_lame_duck_time(balancer_type.lame_duck_time if is_by_request else "0s")
            if is_by_request:
                self.check_events()
            self.check_spread(port)
            self.check_rolling_restart(port)
            self.check_death(port, balancer_type.broken_stream if is_by_request else "UNAVAILABLE")

    def set_lame_duck_time(self, time_text):
        for replica in self.replicas:
            if replica.lame_duck_time != time_text:
                replica.lame_duck_time = time_text
                replica.kill()
                replica.start()

    def check_events(self):
        """Server-sent events come through as they are made, not at the end."""
        command = self.client_command("sse.py", network.BALANCER, balancers.HTTP, 400)
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        outcome = json.loads(done.stdout)
        self.assertEqual(outcome["status"], 200, outcome)
        self.assertTrue(outcome["is_whole"], outcome)
        self.assertGreater(outcome["events"], 20, outcome)
        if IS_ALL:  # a busy machine may make all of them before it sends the first
            self.assertGreater(outcome["seconds"], 0.02, "the events came all at once")

    def open_calls(self, num_samples, replicas):
        command = self.client_command("open_calls.py", num_samples,
                                      *(f"{replica.address}:{ADMIN_PORT}" for replica in replicas))
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)

    def check_spread(self, port):
        streams = self.streams(port, NUM_STREAMS, MAX_TOKENS)
        streams.wait_for(NUM_STREAMS)
        load = self.open_calls(NUM_SAMPLES, self.replicas)  # summed over the samples
        self.assert_whole(streams.end(), MAX_TOKENS)
        print(f"  port {port}: calls open at the replicas in {NUM_SAMPLES} samples: {load}", flush=True)
        mean = sum(load) / len(load)
        self.assertGreater(mean, NUM_SAMPLES, "hardly anything ran")
        for open_calls in load:
            self.assertLessEqual(abs(open_calls - mean), SPREAD * mean, load)

    def check_rolling_restart(self, port):
        streams = self.streams(port, NUM_STREAMS, MAX_TOKENS)
        streams.wait_for(NUM_STREAMS)
        for replica in self.replicas:
            self.assertEqual(replica.restart(), 0)
            streams.wait_for(NUM_STREAMS)
        outcomes = streams.end()
        self.assert_whole(outcomes, MAX_TOKENS)
        print(f"  port {port}: {len(outcomes)} streams through 3 restarts, none lost", flush=True)

    def check_death(self, port, expected):
        streams = self.streams(port, NUM_STREAMS, MAX_TOKENS)
        streams.wait_for(NUM_STREAMS)
        victim = self.replicas[1]
        patience = time.monotonic() + PATIENCE_S
        # Streams of one length end together: not at a moment when hardly any is open.
        while (running := self.open_calls(1, [victim])[0]) < NUM_STREAMS // 6:
            self.assertLess(time.monotonic(), patience, "hardly anything runs on the replica")
        killed = time.monotonic()
        victim.kill()
        streams.wait_for(2 * NUM_STREAMS)
        outcomes = streams.end()
        victim.start()
        broken = [o for o in outcomes if o["code"] != "OK"]
        self.assert_whole([o for o in outcomes if o["code"] == "OK"], MAX_TOKENS)
        self.assertGreater(len(broken), 0, "nothing ran on the replica that was killed")
        self.assertLessEqual(len(broken), NUM_STREAMS)
        # Before the first token it is UNAVAILABLE everywhere.
        for outcome in broken:
            self.assertEqual(outcome["code"], expected if outcome["tokens"] else "UNAVAILABLE", outcome)
        slowest = max(o["ended"] for o in broken) - killed
        self.assertLess(slowest, AT_ONCE_S)
        late = [o for o in broken if o["began"] > killed + AT_ONCE_S / 2]
        self.assertEqual(late, [], "new streams went to the dead replica")
        print(f"  port {port}: {len(broken)} streams broke ({running} ran there), {expected}, "
              f"within {slowest * 1000:.0f} ms", flush=True)

    def test_nginx_by_request(self):
        self.check(balancers.Nginx, balancers.BY_REQUEST)

    @unittest.skipUnless(IS_ALL, "SLUICE_TEST_BALANCERS is not all")
    def test_nginx_by_connection(self):
        self.check(balancers.Nginx, balancers.BY_CONNECTION)

    @unittest.skipUnless(IS_ALL, "SLUICE_TEST_BALANCERS is not all")
    def test_envoy_by_request(self):
        self.check(balancers.Envoy, balancers.BY_REQUEST)

    @unittest.skipUnless(IS_ALL, "SLUICE_TEST_BALANCERS is not all")
    def test_haproxy_by_request(self):
        self.check(balancers.HAProxy, balancers.BY_REQUEST)

    def test_haproxy_by_connection(self):
        self.check(balancers.HAProxy, balancers.BY_CONNECTION)


if __name__ == "__main__":
    balancer_case.main()
