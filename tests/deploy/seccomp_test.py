#!/usr/bin/env python3
"""The server under deploy/kubernetes/seccomp.json: it serves, and can do little else.

seccomp_test.py BINARY SOURCE_DIR [--record | unittest arguments]
--record runs the same scenario under strace and writes the profile anew.
"""
import hashlib
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

BINARY, SOURCE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
HERE = pathlib.Path(__file__).resolve().parent
PROFILE = SOURCE / "deploy" / "kubernetes" / "seccomp.json"
PATIENCE_S = 120
ADDRESSES = ("grpc", "http", "admin")

# Calls that this machine or run need not show, by why the server or the runtime makes them.
UNSEEN = {
    "AMX asks the kernel for its registers": ["arch_prctl"],
    "NVML talks to the driver's devices": ["ioctl"],
    "glibc's and the kernel's other ways to do what was seen": [
        "clone", "clone3", "exit", "exit_group", "fstat", "newfstatat", "statx", "lseek", "poll",
        "ppoll", "epoll_wait", "epoll_pwait", "readv", "writev", "recvfrom", "recvmsg", "sendmsg",
        "sendto", "accept", "accept4", "restart_syscall", "rt_sigreturn", "gettimeofday",
        "clock_gettime", "clock_nanosleep", "nanosleep", "getrandom", "membarrier", "rseq",
        "set_robust_list", "sched_yield", "tgkill", "gettid", "getpid", "mremap", "madvise", "pread64",
        "prlimit64"],
    "the container runtime, between loading the profile and starting the server": [
        "capget", "capset", "close_range", "fcntl", "fstatfs", "getdents64", "getppid", "prctl",
        "setgid", "setgroups", "setuid", "execve"],
}


KEY = "key-of-this-test"


def write_certificate(folder):
    """A new certificate for 127.0.0.1 and its key, in place of the old ones."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=sluice", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", folder / "new.key", "-out", folder / "new.pem"],
                   check=True, stderr=subprocess.DEVNULL)
    for kind in ("key", "pem"):
        os.replace(folder / f"new.{kind}", folder / f"server.{kind}")


class Server:
    """`sluice serve` with every listener, started through `prefix`, until it has said where it listens.

    With `folder`: TLS and API keys, from files there.
    """

    def __init__(self, *prefix, folder=None):
        self.folder = folder
        flags = [part for name in ADDRESSES for part in (f"--{name}-address", "127.0.0.1:0")]
        if folder:
            write_certificate(folder)
            digest = hashlib.sha256(KEY.encode()).hexdigest()
            (folder / "keys").write_text(f"{digest} tester\n", encoding="utf-8")
            flags += ["--tls-cert", folder / "server.pem", "--tls-key", folder / "server.key", "--api-keys",
                      folder / "keys"]
        command = [*map(str, prefix), str(BINARY), "serve", "--model",
                   str(SOURCE / "models" / "llama-tiny"), "--model",
                   str(SOURCE / "models" / "bloom-tiny"), "--kv-cache-memory-bytes", "64MiB",
                   "--log-file", "/dev/stderr", *map(str, flags)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment,
                                        stdin=subprocess.DEVNULL)
        self.log = []
        self.ports = {}
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._ready.wait(PATIENCE_S)

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"listening on \S+:(\d+) \((\w+)", line)
            if found:
                self.ports[found[2].lower()] = int(found[1])
                if len(self.ports) == len(ADDRESSES):
                    self._ready.set()
        self._ready.set()
        self.process.stderr.close()

    def client_command(self, *arguments):
        secured = ["--tls-ca", self.folder / "server.pem", "--api-key", KEY] if self.folder else []
        return [BINARY, "client", "--target", f"127.0.0.1:{self.ports['grpc']}", *secured, *arguments]

    def client(self, *arguments):
        return subprocess.run(self.client_command(*arguments), capture_output=True, text=True,
                              timeout=PATIENCE_S, check=False)

    def get(self, listener, path, body=None):
        """The answer's text over HTTP, or HTTPS; sends `body` if there is one."""
        headers, context, scheme = {}, None, "http"
        if body:
            body, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        if self.folder and listener == "http":
            headers["Authorization"], scheme = f"Bearer {KEY}", "https"
            context = ssl.create_default_context(cafile=self.folder / "server.pem")
        request = urllib.request.Request(f"{scheme}://127.0.0.1:{self.ports[listener]}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S, context=context) as answer:
            return answer.read().decode()

    def pid(self):
        """The server's own process id, also below strace."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        below = children.read_text(encoding="utf-8").split()
        return int(below[0]) if below else self.process.pid

    def end(self):
        os.kill(self.pid(), signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def exchange_certificate(server):
    """A new certificate is served without a restart. Returns an answer under it."""
    write_certificate(server.folder)
    patience = time.monotonic() + PATIENCE_S
    while True:
        try:
            return server.get("http", "/v1/models")
        except urllib.error.URLError:  # the old certificate, which no longer proves itself
            if time.monotonic() > patience:
                raise
            time.sleep(0.1)


def use(server):
    """Everything that the server does in its life: both models, streams at once, a client that leaves,
    each front end, SIGHUP, a drain with a stream under way. Returns what it answered."""
    answers = [server.client("--model", model, "--prompt", "The", "--max-tokens", "40", "--temperature",
                             "0").stdout for model in ("llama-tiny", "bloom-tiny")]
    crowd = [threading.Thread(target=server.client, args=(
        "--model", "llama-tiny", "--prompt", f"Number {i}", "--max-tokens", "200", "--logprobs", "2"))
        for i in range(24)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    body = {"model": "llama-tiny", "prompt": "The", "max_tokens": 40, "temperature": 0}
    plain = json.loads(server.get("http", "/v1/completions", body))
    answers.append(plain["choices"][0]["text"])
    answers.append(server.get("http", "/v1/completions", {**body, "stream": True}))
    answers += [server.get("http", path) for path in ("/", "/status")]
    answers += [server.get("admin", path) for path in ("/metrics", "/health/ready")]
    os.kill(server.pid(), signal.SIGHUP)
    if server.folder:
        answers.append(exchange_certificate(server))
    leaver = subprocess.Popen(server.client_command("--model", "llama-tiny", "--prompt", "The", "--n", "8",
                                                    "--ignore-eos"), stdout=subprocess.PIPE)
    leaver.stdout.read(1)
    leaver.kill()
    leaver.wait()
    leaver.stdout.close()
    return answers


class SeccompTest(unittest.TestCase):
    def server(self, profile=PROFILE, folder=None):
        server = Server(sys.executable, HERE / "seccomp.py", profile, folder=folder)
        self.addCleanup(server.close)
        return server

    def test_it_serves_under_the_profile(self):
        self.check_use(self.server())

    def test_it_serves_with_tls_and_keys_under_the_profile(self):
        with tempfile.TemporaryDirectory() as folder:
            self.check_use(self.server(folder=pathlib.Path(folder)))

    def check_use(self, server):
        self.assertIsNone(server.process.poll(), "".join(server.log))
        for answer in use(server):
            self.assertTrue(answer.strip(), "".join(server.log))
        self.assertEqual(server.end(), 0)

    def test_what_a_server_never_does_is_refused(self):
        rules = json.loads(PROFILE.read_text(encoding="utf-8"))["syscalls"]
        allowed = {name for rule in rules for name in rule["names"]}
        for name in ("ptrace", "unshare", "mount", "bpf", "connect", "setns", "kill", "unlink"):
            self.assertNotIn(name, allowed)
        done = subprocess.run([sys.executable, HERE / "seccomp.py", PROFILE, "unshare", "--user", "true"],
                              capture_output=True, text=True, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("Operation not permitted", done.stderr)

    def test_the_profile_is_in_force(self):
        """Without a call that it needs the server does not start: the filter is real."""
        profile = json.loads(PROFILE.read_text(encoding="utf-8"))
        for rule in profile["syscalls"]:
            rule["names"] = [name for name in rule["names"] if name != "listen"]
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(profile, file)
            file.flush()
            server = self.server(file.name)
            self.assertNotEqual(server.process.wait(PATIENCE_S), 0)


def calls_seen(is_secured):
    """The calls in the life of one server."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = Server("strace", "-f", "-qq", "-o", folder / "calls", folder=folder if is_secured else None)
        try:
            use(server)
            code = server.end()
        finally:
            server.close()
        if code != 0:
            raise SystemExit("the server failed: " + "".join(server.log))
        calls = (folder / "calls").read_text(encoding="utf-8", errors="replace")
    return set(re.findall(r"^\d+ +([a-z_0-9]+)\(", calls, re.MULTILINE))


def record():
    seen = calls_seen(False) | calls_seen(True)
    groups = [("seen in the life of a server", sorted(seen))]
    for why, names in UNSEEN.items():
        groups.append((why, sorted(set(names) - seen)))
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
               "architectures": ["SCMP_ARCH_X86_64"],
               "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW", "comment": why}
                            for why, names in groups if names]}
    PROFILE.write_text(json.dumps(profile, indent=1) + "\n", encoding="utf-8")
    print(f"{len(seen)} calls seen")


def main():
    if sys.argv[3:] == ["--record"]:
        record()
        return
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=1)


if __name__ == "__main__":
    main()
