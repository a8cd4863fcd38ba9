#!/usr/bin/env python3
"""The server under deploy/kubernetes/seccomp.json: it serves, and can do little else.

seccomp_test.py BINARY SOURCE_DIR [--record | unittest arguments]
--record runs the same scenario under strace and writes the profile anew.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
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


def addresses():
    """The listeners that this build has, each on a free port."""
    text = subprocess.run([BINARY, "serve", "--help"], capture_output=True, text=True,
                          check=True).stdout
    return [part for name in ADDRESSES if f"--{name}-address" in text
            for part in (f"--{name}-address", "127.0.0.1:0")]


class Server:
    """`sluice serve` started through `prefix`, until the first line that says where it listens."""

    def __init__(self, *prefix):
        command = [*map(str, prefix), str(BINARY), "serve", "--model",
                   str(SOURCE / "models" / "llama-tiny"), "--model",
                   str(SOURCE / "models" / "bloom-tiny"), "--kv-cache-memory-bytes", "64MiB",
                   *addresses()]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment,
                                        stdin=subprocess.DEVNULL)
        self.log = []
        self.ports = {}
        self._wanted = len(addresses()) // 2
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
                if len(self.ports) == self._wanted:
                    self._ready.set()
        self._ready.set()
        self.process.stderr.close()

    def client(self, *arguments):
        return subprocess.run([BINARY, "client", "--target", f"127.0.0.1:{self.ports['grpc']}",
                               *arguments], capture_output=True, text=True, timeout=PATIENCE_S,
                              check=False)

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


def get(port, path, body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body,
                                     {"Content-Type": "application/json"} if body else {})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return answer.read().decode()


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
    if "http" in server.ports:
        body = {"model": "llama-tiny", "prompt": "The", "max_tokens": 40, "temperature": 0}
        plain = json.loads(get(server.ports["http"], "/v1/completions", json.dumps(body).encode()))
        answers.append(plain["choices"][0]["text"])
        answers.append(get(server.ports["http"], "/v1/completions",
                           json.dumps({**body, "stream": True}).encode()))
    if "admin" in server.ports:
        answers += [get(server.ports["admin"], path) for path in ("/metrics", "/health/ready")]
    if "--log-file" in subprocess.run([BINARY, "serve", "--help"], capture_output=True, text=True,
                                      check=True).stdout:
        os.kill(server.pid(), signal.SIGHUP)
    leaver = subprocess.Popen([BINARY, "client", "--target", f"127.0.0.1:{server.ports['grpc']}",
                               "--model", "llama-tiny", "--prompt", "The", "--n", "8", "--ignore-eos"],
                              stdout=subprocess.PIPE)
    leaver.stdout.read(1)
    leaver.kill()
    leaver.wait()
    leaver.stdout.close()
    return answers


class SeccompTest(unittest.TestCase):
    def server(self, profile=PROFILE):
        server = Server(sys.executable, HERE / "seccomp.py", profile)
        self.addCleanup(server.close)
        return server

    def test_it_serves_under_the_profile(self):
        server = self.server()
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


def record():
    with tempfile.TemporaryDirectory() as folder:
        server = Server("strace", "-f", "-qq", "-o", f"{folder}/calls")
        try:
            use(server)
            code = server.end()
        finally:
            server.close()
        if code != 0:
            raise SystemExit("the server failed: " + "".join(server.log))
        calls = pathlib.Path(folder, "calls").read_text(encoding="utf-8", errors="replace")
    seen = set(re.findall(r"^\d+ +([a-z_0-9]+)\(", calls, re.MULTILINE))
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
