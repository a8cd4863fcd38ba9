"""What the balancers' tests share: the replicas in their network, a client's streams, how a test starts."""
import contextlib
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

import balancers
import network
from replicas import PATIENCE_S, Replica

HERE = pathlib.Path(__file__).resolve().parent
BINARY, SOURCE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
CLIENT_ENVIRONMENT = dict(os.environ, PYTHONPATH=str(SOURCE / ".deps" / "deploy-tools"))
PROTOS = ("sluice/v1/generation.proto", "inference/grpc_predict_v2.proto")


class Streams:
    """`num_streams` streams at a balancer's port, all the time, by streams.py in the client's namespace."""

    def __init__(self, bed, schema, port, num_streams, max_tokens):
        # Balanced by connection, a client that wants spread has many; by request, a few will do.
        num_connections = num_streams if port == balancers.BY_CONNECTION else 4
        command = bed.command(network.CLIENT, sys.executable, HERE / "streams.py",
                              f"{network.BALANCER}:{port}", schema, num_connections, num_streams,
                              max_tokens)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True, env=CLIENT_ENVIRONMENT)
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
        self._process.stdin.close()
        self._process.stdout.close()


class BalancerCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix="sluice-balancer-"))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.schema = cls.work / "schema"
        subprocess.run(["protoc", "--include_imports", f"--descriptor_set_out={cls.schema}",
                        f"--proto_path={SOURCE}/proto", *PROTOS], check=True)
        cls.bed = network.Network()
        cls.addClassCleanup(cls.bed.close)
        cls.replicas = []
        for address in network.REPLICAS:
            cls.replicas.append(Replica(cls.bed, address, BINARY, SOURCE / "models" / "llama-tiny"))
            cls.addClassCleanup(cls.replicas[-1].close)

    @contextlib.contextmanager
    def behind(self, balancer_type, *changes):
        """A balancer with its configuration changed; what fails meanwhile is told with its log."""
        if balancer_type is balancers.Envoy and not balancers.ENVOY.exists():
            self.skipTest("no envoy: scripts/setup --all-tests")
        program, folder = balancer_type.program, self.work / self.id().rsplit(".", 1)[1]
        balancer = balancer_type(self.bed, SOURCE / "deploy" / program, folder, changes)
        try:
            yield balancer
        except AssertionError as error:
            raise AssertionError(f"{error}\n{program}'s log ends:\n{balancer.log()[-2000:]}") from error
        finally:
            balancer.close()

    def client_command(self, script, *arguments):
        return self.bed.command(network.CLIENT, sys.executable, HERE / script, *arguments)

    def streams(self, port, num_streams, max_tokens):
        streams = Streams(self.bed, self.schema, port, num_streams, max_tokens)
        self.addCleanup(streams.close)
        return streams

    def assert_whole(self, outcomes, num_tokens):
        """Every stream brought all its tokens, and all of them the same."""
        lost = [o for o in outcomes if o["code"] != "OK" or o["tokens"] != num_tokens]
        self.assertEqual(lost[:5], [], f"{len(lost)} of {len(outcomes)} streams are not whole")
        self.assertEqual(len({o["digest"] for o in outcomes}), 1)


def main():
    missing = [program for program in ("nginx", "haproxy", "protoc") if not shutil.which(program)]
    why = network.why_not() or (f"{', '.join(missing)} not installed" if missing else None)
    if why:
        print(f"skipped: {why}")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
