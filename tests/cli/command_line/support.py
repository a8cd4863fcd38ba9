"""What the cases share: running the binary, a server, the embedded models."""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import unittest

BINARY = os.environ["SLUICE_BINARY"]
SOURCE = pathlib.Path(os.environ["SLUICE_SOURCE_DIR"])
MODELS = pathlib.Path(os.environ.get("SLUICE_TEST_MODELS", SOURCE / "models"))
LLAMA = MODELS / "llama-tiny"
BLOOM = MODELS / "bloom-tiny"
PATIENCE_S = 120  # a hang, not a speed, is what a wait of this length finds

# A small engine: every test may run beside other work.
SMALL = ["--kv-cache-memory-bytes", "64MiB"]


def environment(**extra):
    """This process's environment without SLUICE_ variables."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
    clean.update(extra)
    return clean


class Outcome:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"exit {self.code}\nstdout: {self.out[-2000:]!r}\nstderr: {self.err[-2000:]!r}"


def sluice(*arguments, **extra_environment):
    """Runs the binary to its end. stdout and stderr must be UTF-8."""
    done = subprocess.run([BINARY, *map(os.fsencode, map(str, arguments))], capture_output=True,
                          timeout=PATIENCE_S, env=environment(**extra_environment),
                          stdin=subprocess.DEVNULL, check=False)
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def in_parallel(function, items):
    """[function(item) for item in items], on every core: most of a short command is its start."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


class CommandLineTest(unittest.TestCase):
    def assert_done(self, outcome):
        self.assertEqual(outcome.code, 0, outcome)

    def assert_refused(self, outcome, *parts, code=2):
        """Exit 2, nothing on stdout, one line on stderr that names what it must."""
        self.assertEqual(outcome.code, code, outcome)
        self.assertEqual(outcome.out, "", outcome)
        self.assertEqual(outcome.err.count("\n"), 1, outcome)
        self.assertTrue(outcome.err.startswith("sluice"), outcome)
        for part in parts:
            self.assertIn(part, outcome.err, outcome)


class Server:
    """`sluice serve` on a free port, with its log read in the background."""

    def __init__(self, *arguments):
        self.log = []
        free = [word for flag in ("--http-address", "--admin-address") if flag not in arguments
                for word in (flag, "127.0.0.1:0")]
        self.process = subprocess.Popen(
            [BINARY, "serve", "--grpc-address", "127.0.0.1:0", *free, *map(str, arguments)],
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment())
        self.target = self.http_target = self.admin_target = None
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(PATIENCE_S) or self.target is None:
            self.process.kill()
            raise AssertionError("server did not start: " + "".join(self.log))

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"listening on (\S+:\d+) \((gRPC|HTTP|admin)\)", line)
            if found and found.group(2) == "HTTP":
                self.http_target = found.group(1)
            elif found and found.group(2) == "admin":
                self.admin_target = found.group(1)
            elif found:  # the last one
                self.target = found.group(1)
                self._ready.set()
        self._ready.set()

    def wait(self):
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def client(self, *arguments):
        return sluice("client", "--target", self.target, *arguments)


@contextlib.contextmanager
def running_server(*arguments):
    server = Server(*arguments)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.wait()
        server.process.stderr.close()


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]
