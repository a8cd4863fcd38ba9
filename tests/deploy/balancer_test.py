#!/usr/bin/env python3
"""Three replicas behind real nginx, HAProxy and Envoy, in network namespaces: restarts, a death, spread.

balancer_test.py BINARY SOURCE_DIR [unittest arguments]. Exits 77 where it cannot run (no root).
By default one way to balance behind each program, with bounds that hold on a machine with other work.
SLUICE_TEST_BALANCERS=all, for a machine without: both ways, the tight bounds, and Envoy, which
scripts/setup --all-tests installs.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.dont_write_bytecode = True

import balancers  # noqa: E402
import network  # noqa: E402
from replicas import PATIENCE_S, Replica  # noqa: E402

IS_ALL = os.environ.get("SLUICE_TEST_BALANCERS") == "all"
NUM_STREAMS = 64
MAX_TOKENS = 128
NUM_SAMPLES = 10
AT_ONCE_S = 2.0 if IS_ALL else 30.0  # far below every time-out in the way: nobody waited for one
# Of the mean. The samples of three replicas are taken one after the other, so a busy machine blurs them.
SPREAD = 0.2 if IS_ALL else 0.5
HERE = pathlib.Path(__file__).resolve().parent
BINARY, SOURCE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
TOOLS = SOURCE / ".deps" / "deploy-tools"


class Streams:
    """NUM_STREAMS streams at a balancer's port, all the time, by streams.py in the client's namespace."""

    def __init__(self, bed, schema, port):
        # Balanced by connection, a client that wants spread has many; by request, a few will do.
        num_connections = NUM_STREAMS if port == balancers.BY_CONNECTION else 4
        command = bed.command(network.CLIENT, sys.executable, HERE / "streams.py",
                              f"{network.BALANCER}:{port}", schema, num_connections, NUM_STREAMS,
                              MAX_TOKENS)
        environment = dict(os.environ, PYTHONPATH=str(TOOLS))
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True, env=environment)
        self._outcomes = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self._outcomes.append(json.loads(line))

    def wait_for(self, count):
        """Until `count` more streams have ended."""
        goal, patience = len(self._outcomes) + count, time.monotonic() + PATIENCE_S
        while len(self._outcomes) < goal:
            if time.monotonic() > patience or self._process.poll() is not None:
                raise AssertionError(f"{goal - len(self._outcomes)} streams are missing")
            time.sleep(0.01)

    def end(self):
        """Lets the streams finish. Every stream's outcome since the start."""
        self._process.stdin.close()
        self._reader.join(PATIENCE_S)
        code = self._process.wait(PATIENCE_S)
        self._process.stdout.close()
        if code != 0:
            raise AssertionError(f"the client exited with {code}")
        return self._outcomes

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class BalancerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix="sluice-balancer-"))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.schema = cls.work / "schema"
        subprocess.run(["protoc", "--include_imports", f"--descriptor_set_out={cls.schema}",
                        f"--proto_path={SOURCE}/proto", "sluice/v1/generation.proto"], check=True)
        cls.bed = network.Network()
        cls.addClassCleanup(cls.bed.close)
        cls.replicas = []
        for address in network.REPLICAS:
            cls.replicas.append(Replica(cls.bed, address, BINARY, SOURCE / "models" / "llama-tiny"))
            cls.addClassCleanup(cls.replicas[-1].close)

    def check(self, balancer_type, port):
        name = balancer_type.program
        balancer = balancer_type(self.bed, SOURCE / "deploy" / name, self.work / f"{name}-{port}")
        try:
            self.set_lame_duck_time(balancer_type.lame_duck_time if port == balancers.BY_REQUEST
                                    else "0s")
            if port == balancers.BY_REQUEST:
                self.check_events()
            self.check_spread(port)
            self.check_rolling_restart(port)
            self.check_death(port, balancer_type.broken_stream if port == balancers.BY_REQUEST
                             else "UNAVAILABLE")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{name}'s log ends:\n{balancer.log()[-2000:]}") from error
        finally:
            balancer.close()

    def streams(self, port):
        streams = Streams(self.bed, self.schema, port)
        self.addCleanup(streams.close)
        return streams

    def assert_whole(self, outcomes):
        """Every stream brought all its tokens, and all of them the same."""
        lost = [o for o in outcomes if o["code"] != "OK" or o["tokens"] != MAX_TOKENS]
        self.assertEqual(lost[:5], [], f"{len(lost)} of {len(outcomes)} streams are not whole")
        self.assertEqual(len({o["digest"] for o in outcomes}), 1)

    def set_lame_duck_time(self, time_text):
        for replica in self.replicas:
            if replica.lame_duck_time != time_text:
                replica.lame_duck_time = time_text
                replica.kill()
                replica.start()

    def check_events(self):
        """Server-sent events come through as they are made, not at the end."""
        command = self.bed.command(network.CLIENT, sys.executable, HERE / "sse.py", network.BALANCER,
                                   balancers.HTTP, 400)
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        outcome = json.loads(done.stdout)
        self.assertEqual(outcome["status"], 200, outcome)
        self.assertTrue(outcome["is_whole"], outcome)
        self.assertGreater(outcome["events"], 20, outcome)
        if IS_ALL:  # a busy machine may make all of them before it sends the first
            self.assertGreater(outcome["seconds"], 0.02, "the events came all at once")

    def check_spread(self, port):
        streams = self.streams(port)
        streams.wait_for(NUM_STREAMS)
        load = [0] * len(self.replicas)  # calls that were open, summed over the samples
        for _ in range(NUM_SAMPLES):
            for index, replica in enumerate(self.replicas):
                information = replica.information()
                load[index] += int(information["requests_running"])
                load[index] += int(information["requests_waiting"])
        self.assert_whole(streams.end())
        print(f"  port {port}: calls open at the replicas in {NUM_SAMPLES} samples: {load}", flush=True)
        mean = sum(load) / len(load)
        self.assertGreater(mean, NUM_SAMPLES, "hardly anything ran")
        for open_calls in load:
            self.assertLessEqual(abs(open_calls - mean), SPREAD * mean, load)

    def check_rolling_restart(self, port):
        streams = self.streams(port)
        streams.wait_for(NUM_STREAMS)
        for replica in self.replicas:
            self.assertEqual(replica.restart(), 0)
            streams.wait_for(NUM_STREAMS)
        outcomes = streams.end()
        self.assert_whole(outcomes)
        print(f"  port {port}: {len(outcomes)} streams through 3 restarts, none lost", flush=True)

    def check_death(self, port, expected):
        streams = self.streams(port)
        streams.wait_for(NUM_STREAMS)
        victim = self.replicas[1]
        running = int(victim.information()["requests_running"])
        killed = time.monotonic()
        victim.kill()
        streams.wait_for(2 * NUM_STREAMS)
        outcomes = streams.end()
        victim.start()
        broken = [o for o in outcomes if o["code"] != "OK"]
        self.assert_whole([o for o in outcomes if o["code"] == "OK"])
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


def main():
    missing = [program for program in ("nginx", "haproxy", "protoc") if not shutil.which(program)]
    why = network.why_not() or (f"{', '.join(missing)} not installed" if missing else None)
    if why:
        print(f"skipped: {why}")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)


if __name__ == "__main__":
    main()
