"""Servers of the test bed."""
import os
import re
import signal
import subprocess
import threading

PATIENCE_S = 120  # a hang, not a speed, is what a wait of this length finds
GRPC_PORT, HTTP_PORT, ADMIN_PORT = 50051, 8080, 8081


class Replica:
    """`sluice serve` at one address of the network."""

    def __init__(self, network, address, binary, model):
        self._network, self.address, self._binary, self._model = network, address, binary, model
        self._process = None
        self.lame_duck_time = "0s"
        self.start()

    def start(self):
        command = self._network.command(
            self.address, self._binary, "serve", "--model", self._model, "--insecure",
            "--grpc-address", f"{self.address}:{GRPC_PORT}",
            "--http-address", f"{self.address}:{HTTP_PORT}",
            "--admin-address", f"{self.address}:{ADMIN_PORT}", "--lame-duck-time", self.lame_duck_time,
            "--num-threads", 1,
            "--kv-cache-memory-bytes", "64MiB", "--no-enable-prefix-caching")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                         text=True, env=environment)
        log, ready = [], threading.Event()

        def read(lines=self._process.stderr):
            for line in lines:
                log.append(line)
                if re.search(r"listening on \S+ \(gRPC", line):
                    ready.set()
            ready.set()
            lines.close()

        threading.Thread(target=read, daemon=True).start()
        ready.wait(PATIENCE_S)
        if self._process.poll() is not None or not ready.is_set():
            raise AssertionError("replica did not start: " + "".join(log))

    def restart(self):
        """SIGTERM, the end of its streams, a new process. Returns the old one's exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(PATIENCE_S)
        self.start()
        return code

    def kill(self):
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def close(self):
        if self._process and self._process.poll() is None:
            self.kill()
