#!/usr/bin/env python3
"""Silence, peers that vanish without a word and names that move, behind real nginx, HAProxy and Envoy.

balancer_faults_test.py BINARY SOURCE_DIR [unittest arguments]. Exits 77 where it cannot run (no root);
Envoy's part skips without `scripts/setup --all-tests`. Each program runs with its file in deploy/, but
with every time from 2 s to ten minutes made 2 s (balancers.py).
"""
import json
import re
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import balancer_case  # noqa: E402
import balancers  # noqa: E402
import network  # noqa: E402
from balancer_case import CLIENT_ENVIRONMENT, SOURCE  # noqa: E402
from replicas import HTTP_PORT, PATIENCE_S  # noqa: E402

GRPC_PORTS = (balancers.BY_REQUEST, balancers.BY_CONNECTION)
SILENCE_S = 3 * balancers.SHORT_S  # longer than all that a silent stream must not meet
# Four times of 2 s (a keepalive's idle time and three intervals), two of 2 s for connecting, and room.
GONE_S = 15
NUM_STREAMS, MAX_TOKENS = 6, 384
FETCH = ("import sys, urllib.request\n"
         "with urllib.request.urlopen(sys.argv[1], timeout=5) as answer: answer.read()")


class Case(balancer_case.BalancerCase):
    def start(self, command):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=CLIENT_ENVIRONMENT)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def wait_until(self, is_so, why):
        """Polls for GONE_S at most. How long it took."""
        began = time.monotonic()
        while not is_so():
            self.assertLess(time.monotonic() - began, GONE_S, why)
            time.sleep(0.2)
        return time.monotonic() - began

    def fetches(self):
        """Whether the models are listed over HTTP."""
        url = f"http://{network.BALANCER}:{balancers.HTTP}/v1/models"
        command = self.bed.command(network.CLIENT, sys.executable, "-c", FETCH, url)
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


class FaultsTest(Case):
    def check(self, balancer_type):
        with self.behind(balancer_type, balancers.with_addresses, balancers.with_short_times):
            self.check_silence()
            if balancer_type.has_idle_time:
                self.check_idle_connections()
            self.check_vanished_client()
            self.check_vanished_replica()

    def kserve_stream(self, port, silence_s):
        command = self.client_command("kserve_stream.py", f"{network.BALANCER}:{port}", self.schema,
                                      silence_s)
        process = self.start(command)
        self.assertEqual(json.loads(process.stdout.readline()), {"answers": 1})
        return process

    def check_silence(self):
        """A KServe stream is silent between two requests for as long as the server lets it."""
        streams = [self.kserve_stream(port, SILENCE_S) for port in GRPC_PORTS]
        for port, stream in zip(GRPC_PORTS, streams):
            outcome = json.loads(stream.stdout.readline())
            self.assertEqual(outcome, {"answers": 2, "code": "OK", "details": ""}, f"port {port}")

    def check_idle_connections(self):
        """The balancer closes idle HTTP connections before the server does."""
        self.assertTrue(self.fetches())
        self.wait_until(lambda: not any(self.bed.num_connections(network.BALANCER, r, HTTP_PORT)
                                        for r in network.REPLICAS), "an idle connection stays")

    def check_vanished_client(self):
        for port in GRPC_PORTS:
            self.kserve_stream(port, PATIENCE_S)
        self.bed.unplug(network.CLIENT)
        try:
            took_s = self.wait_until(
                lambda: not self.bed.num_connections(network.BALANCER, network.CLIENT),
                "connections to a client that is gone stay")
        finally:
            self.bed.plug(network.CLIENT)
        print(f"  silent connections of a client that vanished ended after {took_s:.1f} s", flush=True)

    def check_vanished_replica(self):
        """Its streams end, new ones go elsewhere, by request and by connection."""
        streams = [self.streams(port, NUM_STREAMS, MAX_TOKENS) for port in GRPC_PORTS]
        for one in streams:
            one.wait_for(NUM_STREAMS)
        vanished = time.monotonic()
        self.bed.unplug(network.REPLICAS[1])
        try:
            time.sleep(GONE_S)
            for one in streams:
                one.wait_for(NUM_STREAMS)
            for port, one in zip(GRPC_PORTS, streams):
                self.check_outcomes(port, one.end(), vanished)
        finally:
            self.bed.plug(network.REPLICAS[1])

    def check_outcomes(self, port, outcomes, vanished):
        broken = [o for o in outcomes if o["code"] != "OK"]
        self.assert_whole([o for o in outcomes if o["code"] == "OK"], MAX_TOKENS)
        self.assertGreater(len(broken), 0, f"port {port}: nothing ran on the replica that vanished")
        slowest = max(o["ended"] for o in outcomes if o["began"] < vanished) - vanished
        self.assertLess(slowest, GONE_S, f"port {port}: a stream hangs")
        late = [o for o in broken if o["began"] > vanished + GONE_S]
        self.assertEqual(late, [], f"port {port}: new streams went to the replica that vanished")
        print(f"  port {port}: {len(broken)} streams of a replica that vanished ended within "
              f"{slowest:.1f} s: {sorted({o['code'] for o in broken})}", flush=True)

    def test_nginx(self):
        self.check(balancers.Nginx)

    def test_haproxy(self):
        self.check(balancers.HAProxy)

    def test_envoy(self):
        self.check(balancers.Envoy)

    def test_nginx_cuts_a_body_that_stalls(self):
        """The short time that gRPC's streams must not meet is there where it belongs."""
        stall = ("import socket, sys\n"
                 "s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 15)\n"
                 "s.sendall(b'POST /v1/completions HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 9\\r\\n\\r\\n{')\n"
                 "print(s.recv(4096))")
        with self.behind(balancers.Nginx, balancers.with_addresses, balancers.with_short_times):
            answer = self.bed.run(network.CLIENT, sys.executable, "-c", stall, network.BALANCER,
                                  balancers.HTTP)
            self.assertEqual(answer.strip(), "b''")

    def test_idle_times_are_shorter_than_the_servers(self):
        def seconds(path, pattern):
            return int(re.search(pattern, (SOURCE / path).read_text(encoding="utf-8"), re.DOTALL)[1])

        server = seconds("src/server/http/http_server.h", r" idle_time = std::chrono::seconds\((\d+)\)")
        self.assertLess(seconds("deploy/nginx/replicas/http.conf", r"keepalive_timeout (\d+)s;"), server)
        self.assertLess(seconds("deploy/envoy/envoy.yaml",
                                r"- name: sluice_http\n.*?{idle_timeout: (\d+)s}"), server)


class NamesTest(Case):
    """The replicas' names stay names, and what they mean changes."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.names = cls.work / "names"
        cls.bed.set_name_server(network.BALANCER, network.BALANCER)

    def setUp(self):
        for address in network.REPLICAS:
            self.bed.plug(address)
        command = self.bed.command(network.BALANCER, sys.executable,
                                   balancer_case.HERE / "name_server.py", network.BALANCER, self.names)
        self.name_server = self.start(command)
        self.assertEqual(self.name_server.stdout.readline(), "ready\n")

    def set_names(self, **replicas):
        """`sluice_1=0`: sluice-1 is the first replica."""
        self.names.with_suffix(".new").write_text("".join(
            f"{network.REPLICAS[index]} {name.replace('_', '-')}\n" for name, index in replicas.items()),
            encoding="utf-8")
        self.names.with_suffix(".new").replace(self.names)

    def check(self, balancer_type):
        self.set_names(sluice_1=0, sluice_2=0)  # there is no sluice-3
        with self.behind(balancer_type, balancers.with_short_times):
            self.wait_until(self.fetches, "two names of three are known, and nothing is served")
            self.set_names(sluice_1=0, sluice_2=0, sluice_3=1)
            self.bed.unplug(network.REPLICAS[0])
            self.wait_until(self.fetches, "a name that came to be known is not used")
            self.set_names(sluice_1=2, sluice_2=2, sluice_3=1)
            self.bed.unplug(network.REPLICAS[1])
            self.wait_until(self.fetches, "a name that means another address is not followed")
            self.name_server.kill()
            time.sleep(SILENCE_S)
            self.wait_until(self.fetches, "without a name server nothing is served")

    def test_haproxy(self):
        self.check(balancers.HAProxy)

    def test_envoy(self):
        self.check(balancers.Envoy)

    def test_nginx_follows_at_a_reload(self):
        self.set_names(sluice_1=0, sluice_2=0, sluice_3=0)
        with self.behind(balancers.Nginx, balancers.with_short_times) as balancer:
            self.wait_until(self.fetches, "nothing is served")
            self.set_names(sluice_1=1, sluice_2=1, sluice_3=1)
            self.bed.unplug(network.REPLICAS[0])
            balancer.process.send_signal(signal.SIGHUP)
            self.wait_until(self.fetches, "a reload does not follow names")


if __name__ == "__main__":
    balancer_case.main()
