"""nginx, HAProxy and Envoy as deploy/ has them; only the replicas' names become addresses."""
import pathlib
import re
import shutil
import subprocess
import sys
import time

import network
from replicas import PATIENCE_S

BY_REQUEST, BY_CONNECTION, HTTP = 50051, 50052, 8080


class Balancer:
    """One process in the balancer's namespace. `folder` holds its files and its log."""

    def __init__(self, bed, source, folder):
        shutil.copytree(source, folder)
        self._log = open(folder / "log", "w+", encoding="utf-8")
        for path in folder.rglob("*.*"):
            text = path.read_text(encoding="utf-8")
            path.write_text(re.sub(r"sluice-([123])(?=[:,])", lambda m: network.REPLICAS[int(m[1]) - 1],
                                   text), encoding="utf-8")
        self._process = subprocess.Popen(bed.command(network.BALANCER, *self.arguments(folder)),
                                         stdin=subprocess.DEVNULL, stdout=self._log,
                                         stderr=subprocess.STDOUT)
        try:
            self._wait_for_port(bed)
        except AssertionError:
            self.close()
            raise

    def _wait_for_port(self, bed):
        probe = f"import socket; socket.create_connection(('{network.BALANCER}', {BY_REQUEST}), 1)"
        for _ in range(PATIENCE_S * 10):
            if self._process.poll() is not None:
                break
            if subprocess.run(bed.command(network.BALANCER, sys.executable, "-c", probe),
                              capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError("the balancer did not start: " + self.log())

    def log(self):
        self._log.flush()
        return pathlib.Path(self._log.name).read_text(encoding="utf-8")

    def close(self):
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Nginx(Balancer):
    program = "nginx"
    # What a client sees of a stream whose replica died, balanced by request.
    broken_stream = "INTERNAL"
    # nginx has no checks of its own: it learns of a restart from the closed port.
    lame_duck_time = "0s"

    def arguments(self, folder):
        return ["nginx", "-c", folder / "nginx.conf", "-g",
                f"daemon off; pid {folder}/nginx.pid; error_log stderr;"]


class HAProxy(Balancer):
    program = "haproxy"
    broken_stream = "UNKNOWN"
    # Its checks, and the streams that began before them: HAProxy 2.6 cuts the tail of a stream that ends
    # as its replica exits.
    lame_duck_time = "4s"

    def arguments(self, folder):
        return ["haproxy", "-db", "-f", folder / "haproxy.cfg"]


class Envoy(Balancer):
    program = "envoy"
    broken_stream = "INTERNAL"
    # Its checks, once a second.
    lame_duck_time = "2s"

    def arguments(self, folder):
        envoy = pathlib.Path(__file__).resolve().parents[2] / ".deps/extra-tools/envoy/_bin/envoy"
        return [envoy, "-c", folder / "envoy.yaml", "--concurrency", "2", "--disable-hot-restart"]
