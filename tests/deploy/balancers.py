"""nginx, HAProxy and Envoy as deploy/ has them: the replicas' names become addresses, or times shorter."""
import pathlib
import re
import shutil
import subprocess
import sys
import time

import network
from replicas import PATIENCE_S

BY_REQUEST, BY_CONNECTION, HTTP = 50051, 50052, 8080
ENVOY = pathlib.Path(__file__).resolve().parents[2] / ".deps/extra-tools/envoy/_bin/envoy"
SHORT_S = 2
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def with_addresses(text):
    return re.sub(r"sluice-([123])(?=[:,])", lambda m: network.REPLICAS[int(m[1]) - 1], text)


def with_short_times(text):
    """What lasts from SHORT_S to less than ten minutes, a request's longest life, lasts SHORT_S."""
    def shorten(match):
        is_longer = SHORT_S < int(match[1]) * _UNIT_S[match[2]] < 600
        return f"{SHORT_S}s" if is_longer else match[0]

    text = re.sub(r"(?<![\w.])(?<!body_size )(\d+)([smhd])\b", shorten, text)
    # Without a unit: Envoy's keepalive in seconds and its TCP_USER_TIMEOUT in milliseconds, the kernel's
    # keepalive, and its count of retries that stands for a time: three of them are 3 s.
    text = re.sub(r"(keepalive_(?:time|interval|intvl)(?: =|:)) \d+", rf"\1 {SHORT_S}", text)
    text = re.sub(r"(name: 18, int_value:) \d+", rf"\1 {SHORT_S * 1000}", text)
    text = re.sub(r"(tcp_retries2 =) \d+", r"\1 3", text)
    # HAProxy's own 30 s, where ours does not say otherwise: the last line counts.
    holds = "".join(f"  hold {status} {SHORT_S}s\n" for status in ("nx", "refused", "timeout", "other"))
    return re.sub(r"(?m)^(resolvers \w+\n)", r"\1" + holds, text)


class Balancer:
    """One process in the balancer's namespace. `folder` holds its files and its log."""

    has_idle_time = True  # for HTTP connections to replicas

    def __init__(self, bed, source, folder, changes=(with_addresses,)):
        shutil.copytree(source, folder)
        self._bed, self.folder = bed, folder
        self._log = open(folder / "log", "w+", encoding="utf-8")
        for path in folder.rglob("*.*"):
            text = path.read_text(encoding="utf-8")
            for change in changes:
                text = change(text)
            path.write_text(text, encoding="utf-8")
        self._kernel_before = self._set_kernel(folder / "sysctl.conf")
        self.process = subprocess.Popen(bed.command(network.BALANCER, *self.arguments(folder)),
                                        stdin=subprocess.DEVNULL, stdout=self._log,
                                        stderr=subprocess.STDOUT)
        try:
            self._wait_for_port()
        except AssertionError:
            self.close()
            raise

    def _set_kernel(self, path):
        """Loads the kernel's settings that the program asks for. A file with those of before, or None."""
        if not path.exists():
            return None
        names = re.findall(r"(?m)^[\w.]+", path.read_text(encoding="utf-8"))
        before = path.with_suffix(".before")
        before.write_text(self._bed.run(network.BALANCER, "sysctl", *names), encoding="utf-8")
        self._bed.run(network.BALANCER, "sysctl", "--quiet", "--load", path)
        return before

    def _wait_for_port(self):
        probe = f"import socket; socket.create_connection(('{network.BALANCER}', {BY_REQUEST}), 1)"
        for _ in range(PATIENCE_S * 10):
            if self.process.poll() is not None:
                break
            if subprocess.run(self._bed.command(network.BALANCER, sys.executable, "-c", probe),
                              capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError("the balancer did not start: " + self.log())

    def log(self):
        self._log.flush()
        return pathlib.Path(self._log.name).read_text(encoding="utf-8")

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._kernel_before:
            self._set_kernel(self._kernel_before)
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
    has_idle_time = False  # 2.6 keeps a connection until the server closes it

    def arguments(self, folder):
        return ["haproxy", "-db", "-f", folder / "haproxy.cfg"]


class Envoy(Balancer):
    program = "envoy"
    broken_stream = "INTERNAL"
    # Its checks, once a second.
    lame_duck_time = "2s"

    def arguments(self, folder):
        return [ENVOY, "-c", folder / "envoy.yaml", "--concurrency", "2", "--disable-hot-restart"]
