#!/usr/bin/env python3
"""Everything that is measured on a GPU, in one run: the GPU's limits, kernels, models, and peers.

    measure.py --binaries build-gpu/bin --seconds 240 --json gpu.json --table gpu.md

Needs what `cmake --build BUILD --target gpu_benchmarks` makes and a Python with torch. Goes through
its steps in the order of their weight and leaves out what the time does not suffice for; writes
what it found so far after each. Checkpoints of random weights are made in --work and deleted, the
largest (16 GB) at the end, where a package as large is beside it. Exits with 1 if a step
failed; what was left out is said, and is no failure.
"""

import argparse
import datetime
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import machine
import report
import shapes

HERE = pathlib.Path(__file__).resolve().parent
SKIPPED = 77
ALONE = "1x128+128"
LARGE = "llama-3.1-8b"
WIDE = "bloom-560m"  # the widest vocabulary for its size: what sampling costs shows there
PROFILED = "256x64+64"  # once as it is, and once with a profile
# By shape: what Sluice runs. Streams decode together only after the last one's prompt, of which
# 256 come 8 a step: so the long outputs.
RUNS = {
    WIDE: [f"{ALONE}*3", f"{PROFILED}*1"],
    "llama-3.2-1b": [f"{ALONE}*3"],
    "bloom-7b1": [f"{ALONE}*3"],
    LARGE: [f"{ALONE}*3", "1x4096+1*3", "32x1000+64", "256x1000+128"],
}
# What the fixed order of sums costs, of the largest shape.
ORDER_RUNS = [f"{ALONE}*3", "32x1000+64", "1x4096+1*3"]
PEER_RUNS = {LARGE: [ALONE, "32x1000+64"]}
SLOW_PEER_RUN = "256x1000+128"  # of the largest shape: minutes, so it comes last
PEER_SECONDS = 90


class Failed(Exception):
    """A step's program failed or took too long."""


def program_of(command):
    """The name of what a command runs: of Python's, the script."""
    first, *rest = map(str, command)
    return pathlib.Path(rest[0] if first == sys.executable else first).name


class Runner:
    """Runs programs within what is left of the time, and keeps what they print."""

    def __init__(self, seconds, log):
        self._deadline = time.monotonic() + seconds
        self._log = log

    def left(self):
        return self._deadline - time.monotonic()

    def lines(self, command, limit, into):
        """Appends the JSON objects of a program's lines to `into`, as they come."""
        command = [str(part) for part in command]
        print(f"+ {' '.join(command)}", file=self._log, flush=True)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True,
                                   start_new_session=True)
        seconds = max(1, min(limit, self.left()))
        overdue = threading.Event()

        def end():
            overdue.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            for line in process.stdout:
                print(line, end="", file=self._log, flush=True)
                if line.startswith("{"):
                    into.append(json.loads(line))
            status = process.wait()
        finally:
            timer.cancel()
        if overdue.is_set():
            raise Failed(f"{program_of(command)} was stopped after {seconds:.0f} s")
        return status

    def run(self, command, limit, into):
        """The same for a program that must succeed."""
        status = self.lines(command, limit, into)
        if status != 0:
            raise Failed(f"{program_of(command)} ended with {status}: {self.last_words()}")

    def last_words(self):
        """The last line of what the programs printed."""
        lines = pathlib.Path(self._log.name).read_text(encoding="utf-8").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")[:300]


class Checkpoints:
    """The folders of the shapes."""

    def __init__(self, folder, runner):
        self._folder = folder
        self._runner = runner

    def path(self, shape):
        return self._folder / shape

    def has_room(self, shape):
        free = shutil.disk_usage(self._folder).free
        return free >= shapes.checkpoint_bytes(shape) + (2 << 30)

    def make(self, shape):
        path = self.path(shape)
        if path.exists():
            return
        if not self.has_room(shape):
            raise Failed(f"{self._folder} has no room for {shape}")
        self._runner.run([sys.executable, HERE / "checkpoints.py", shape, path], 120, [])

    def drop(self, shape):
        shutil.rmtree(self.path(shape), ignore_errors=True)
        shutil.rmtree(self.path(f"{shape}.half"), ignore_errors=True)


class Measurement:
    """The steps, and what they found."""

    def __init__(self, options, runner, work):
        self._options = options
        self._runner = runner
        self._checkpoints = Checkpoints(work, runner)
        self._bench = options.binaries / "gpu_bench"
        self.found = {
            "date": datetime.date.today().isoformat(), "machine": machine.describe(),
            "commit": machine.commit(), "limits": {}, "kernels": {},
            "models": {shape: {} for shape in options.shapes}, "failed": [], "left_out": [],
        }

    def steps(self):
        """(name, seconds that it needs, function), the weightiest first."""
        peers = {shape: (f"{shape}, Transformers", 60 if shape == LARGE else 30,
                         lambda shape=shape: self.peers(shape, PEER_RUNS.get(shape, [ALONE])))
                 for shape in self._options.shapes if self._options.peers}
        yield "limits", 10, self.limits
        yield "kernels", 15, self.kernels
        for shape in self._options.shapes:
            yield from self._own_steps(shape)
            if shape == LARGE and peers:
                yield peers.pop(shape)
        yield from peers.values()
        if LARGE not in self._options.shapes:
            return
        yield f"{LARGE}, first token", 60, lambda: self.first_token(LARGE)
        yield f"{LARGE}, deletion", 0, lambda: self._checkpoints.drop(LARGE)
        if self._options.peers:
            yield (f"{LARGE}, Transformers, {SLOW_PEER_RUN}", 60,
                   lambda: self.peers(LARGE, [SLOW_PEER_RUN]))

    def _own_steps(self, shape):
        needed = 10 + shapes.checkpoint_bytes(shape) / 1e9
        yield f"{shape}, checkpoint", needed, lambda: self._checkpoints.make(shape)
        if not self._checkpoints.path(shape).exists():
            self._checkpoints.drop(shape)  # half of it
            return
        yield shape, needed, lambda: self.model(shape)
        if shape == WIDE:
            yield f"{shape}, kernels in turn", needed, lambda: self.kernels_in_turn(shape)
            yield f"{shape}, profile", needed, lambda: self.profile(shape)
        if shape == LARGE:
            yield f"{shape}, fastest order", needed, lambda: self.fastest_order(shape)
            return  # its files are needed again
        yield f"{shape}, deletion", 0, lambda: self._checkpoints.drop(shape)

    def limits(self):
        self._only_line([sys.executable, HERE / "limits.py"], 60, "limits")

    def kernels(self):
        self._only_line([self._options.binaries / "gpu_kernels_bench"], 60, "kernels")

    def _only_line(self, command, limit, name):
        lines = []
        try:
            self._runner.run(command, limit, lines)
        finally:
            if lines:
                self.found[name] = lines[0]

    def _own(self, shape, flags, limit, key, program=()):
        lines = self.found["models"][shape].setdefault(key, [])
        self._runner.run([*(program or [self._bench]), "--model", self._checkpoints.path(shape),
                          "--device", self._options.device, *flags], limit, lines)

    def model(self, shape):
        self._own(shape, ["--runs", ",".join(RUNS[shape])], 120, "sluice")

    def kernels_in_turn(self, shape):
        """What it gives that kernels start before those ahead of them are done."""
        self._own(shape, ["--runs", f"{ALONE}*3"], 60, "sluice_in_turn",
                  ["env", "SLUICE_CUDA_DEPENDENT_LAUNCH=0", self._bench])

    def fastest_order(self, shape):
        """With the kernels whose sums have no fixed order: a program takes those beside it."""
        folder = self._options.binaries / "fastest_order"
        if not (folder / "libsluice_cuda.so").exists():
            raise Failed(f"{folder} has no kernels: build sluice_cuda_fastest_order")
        program = folder / self._bench.name
        shutil.copy2(self._bench, program)
        self._own(shape, ["--runs", ",".join(ORDER_RUNS), "--any-tokens"], 60,
                  "sluice_fastest_order", [program])

    def profile(self, shape):
        self._own(shape, ["--runs", PROFILED, "--profile"], 60, "sluice_profiled")

    def first_token(self, shape):
        """From starting a process to its first token, the package's files in the page cache."""
        package = self._checkpoints.path(f"{shape}.package")
        shutil.rmtree(package, ignore_errors=True)
        if not self._checkpoints.path(shape).exists() or not self._checkpoints.has_room(shape):
            self._left_out(f"{shape}, first token: no checkpoint, or no room for a package")
            return
        try:
            self._own(shape, ["--import", package], 90, "import")
            times = self.found["models"][shape].setdefault("first_token", [])
            for _ in range(2):
                begin = time.monotonic()
                self._runner.run([self._bench, "--model", package, "--device",
                                  self._options.device, "--first-token"], 60, times)
                times[-1]["process_s"] = time.monotonic() - begin
        finally:
            shutil.rmtree(package, ignore_errors=True)

    def peers(self, shape, runs):
        """What a peer cannot do, or not in time, is no failure of ours."""
        lines = self.found["models"][shape].setdefault("transformers", [])
        command = [sys.executable, HERE / "peers.py", shape, "--runs", ",".join(runs)]
        try:
            status = self._runner.lines(command, PEER_SECONDS, lines)
        except Failed as error:
            self._left_out(f"{shape}, Transformers, {runs[-1]}: {error}")
            return
        if status == SKIPPED:
            self._left_out(f"{shape}, Transformers: it is not installed")
        elif status != 0:
            self._left_out(f"{shape}, Transformers: it ended with {status}: "
                           f"{self._runner.last_words()}")

    def _left_out(self, what):
        self.found["left_out"].append(what)
        print(what, file=sys.stderr)

    def run(self):
        for name, needed, step in self.steps():
            if self._runner.left() < needed:
                self._left_out(f"{name}: {max(self._runner.left(), 0):.0f} s were left")
                continue
            begin = time.monotonic()
            try:
                step()
            except (Failed, OSError, ValueError) as error:
                self.found["failed"].append(f"{name}: {error}")
                print(f"FAILED: {name}: {error}", file=sys.stderr)
            print(f"{name}: {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)
            self.write()
        self.write()

    def write(self):
        text = json.dumps(self.found, indent=1)
        self._options.json.write_text(text + "\n", encoding="utf-8")
        self._options.table.write_text(report.markdown(self.found), encoding="utf-8")


def parse_arguments():
    def names(text):
        chosen = text.split(",")
        for name in chosen:
            if name not in shapes.NAMES:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(shapes.NAMES)}")
        return chosen

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument("--table", type=pathlib.Path, required=True)
    parser.add_argument("--log", type=pathlib.Path, help="what the programs print")
    parser.add_argument("--work", type=pathlib.Path,
                        help="folder of the checkpoints; one that is there already is used")
    parser.add_argument("--shapes", type=names,
                        default=[WIDE, LARGE, "llama-3.2-1b", "bloom-7b1"])
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--device", default="cuda", help="cpu: a trial of this program")
    return parser.parse_args()


def main():
    options = parse_arguments()
    log_path = options.log or options.json.with_suffix(".log")
    with tempfile.TemporaryDirectory(prefix="sluice-gpu-") as temporary, \
            log_path.open("w", encoding="utf-8") as log:
        work = options.work or pathlib.Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        measurement = Measurement(options, Runner(options.seconds, log), work)
        measurement.run()
    sys.exit(1 if measurement.found["failed"] else 0)


if __name__ == "__main__":
    main()
