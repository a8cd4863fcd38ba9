#!/usr/bin/env python3
"""Sluice's server against llama.cpp's: one client, the same load, in turns, in one run.

Makes a random checkpoint of bloom-560m's shape, Sluice's int8 package and llama.cpp's q8_0 of it,
builds llama-server from the source that llama-cpp-python ships, and starts both with the same
threads and slots. `sluice bench serve` then loads them in turns: ours over gRPC and over OpenAI's
HTTP, theirs over OpenAI's HTTP. A server is frozen while another is measured. Prompts are random
token ids, tokens are greedy, and every stream must give all its tokens, or the run fails. At last
requests arrive at random, at half the rate that Sluice answers at most. Prints Markdown: medians
with spreads.

Everything is made on first use, in ignored folders: 500 MB of llama.cpp, 4 GB of models.

  benchmarks/peers/serve_compare.py                       15 minutes, the first time half an hour
  benchmarks/peers/serve_compare.py --streams 16 --llama-flags=--flash-attn=off
"""

import argparse
import dataclasses
import json
import os
import pathlib
import resource
import shlex
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

import models
from compare import add_places, machine_report, spread, stop_on_sigterm
from environments import Environments, Failed, llama_cpp_requirement, run
from frozen import FrozenProcess

SHAPE = "bloom-560m"
PROMPT_TOKENS, OUTPUT_TOKENS = 128, 64
SLOT_TOKENS = 256  # prompt and completion, rounded up
START_S = 120  # a server that is not ready after it has failed
WARM_UP = ["--duration", "1s"]
# The best of what was tried; benchmarks/README.md says what.
LLAMA_FLAGS = ["--flash-attn", "off", "--backend-sampling"]


def parse_arguments():
    def numbers(text):
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=numbers, default=[1, 4, 16],
                        help="at once, and slots; the last is also that of the open load [1,4,16]")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side, quiet ones [3]")
    parser.add_argument("--attempts", type=int, default=6, help="at most so many rounds [6]")
    parser.add_argument("--quiet", type=float, default=0.1,
                        help="other work of a round that counts, as a fraction of the cores [0.1]")
    parser.add_argument("--duration", default="10s", help="of a load with streams at once [10s]")
    parser.add_argument("--open-duration", default="15s", help="of the open load, or 0s [15s]")
    parser.add_argument("--llama-flags", type=shlex.split, default=LLAMA_FLAGS,
                        help=f"of llama-server [{shlex.join(LLAMA_FLAGS)}]")
    add_places(parser)
    return parser.parse_args()


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


class Server(FrozenProcess):
    """A server's process, frozen but for its turns."""

    def __init__(self, command, http_address, log):
        self._url = f"http://{http_address}/v1/models"
        super().__init__(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_until_ready(self):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self._url):
                    return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise Failed(f"not ready: {shlex.join(self.command)}")


@dataclasses.dataclass
class Side:
    """A column of the table."""
    name: str
    server: Server
    target: str


class Servers:
    """Both servers with some number of slots."""

    def __init__(self, binaries, slots, options, log):
        self.sides = []
        self._running = []
        try:
            self._start_sluice(binaries, slots, options, log)
            self._start_llama(binaries, slots, options, log)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        for server in self._running:
            server.stop()

    def _start_sluice(self, binaries, slots, options, log):
        grpc, http = free_address(), free_address()
        server = Server([binaries.sluice, "serve", "--model", binaries.package,
                         "--grpc-address", grpc, "--http-address", http, "--admin-address", "none",
                         "--num-threads", options.threads, "--max-num-seqs", slots,
                         "--max-model-len", SLOT_TOKENS, "--no-enable-prefix-caching", "--quiet"],
                        http, log)
        self._running.append(server)
        self.sides += [Side("Sluice, gRPC", server, grpc),
                       Side("Sluice, HTTP", server, f"http://{http}")]

    def _start_llama(self, binaries, slots, options, log):
        http = free_address()
        host, port = http.split(":")
        server = Server([binaries.llama_server, "--model", binaries.gguf, "--host", host,
                         "--port", port, "--threads", options.threads,
                         "--threads-batch", options.threads, "--parallel", slots, "--cont-batching",
                         "--ctx-size", slots * SLOT_TOKENS, "--no-cache-prompt", "--cache-ram", 0,
                         "--log-verbosity", 2, *options.llama_flags], http, log)
        self._running.append(server)
        self.sides.append(Side("llama-server", server, f"http://{http}"))


@dataclasses.dataclass
class Binaries:
    sluice: pathlib.Path
    package: pathlib.Path
    llama_server: pathlib.Path
    gguf: pathlib.Path


def load(sluice, side, flags):
    """What `sluice bench serve` found; fails if a stream gave another number of tokens."""
    meter = CpuMeter(side.server)
    with side.server:
        found = json.loads(run([
            sluice, "bench", "serve", "--target", side.target, "--vocabulary-size",
            models.vocabulary_size(SHAPE), "--prompt-tokens", PROMPT_TOKENS, "--output-tokens",
            OUTPUT_TOKENS, "--greedy", "--json", "--quiet", *flags]))
    tokens = round(found["tokens_per_s"] * found["seconds"])
    if found["failed"] or found["dropped"] or tokens != found["succeeded"] * OUTPUT_TOKENS:
        raise Failed(f"{side.name} gave {tokens} tokens: {found}")
    return {**found, "other_work": meter.others()}


class CpuMeter:
    """What everybody else computed while a server was loaded, as a fraction of the cores."""

    def __init__(self, server):
        self._server = server
        self._begin = self._times()

    def others(self):
        busy, idle, own = (now - before for now, before in zip(self._times(), self._begin))
        return max(0.0, (busy - own) / (busy + idle))

    def _times(self):
        """Seconds of all cores busy and idle, and of the server and the clients that ended."""
        ticks = os.sysconf("SC_CLK_TCK")
        user, nice, system, idle, iowait, *_ = map(int, read_proc("stat").split()[1:9])
        own = sum(map(int, read_proc(f"{self._server.process.pid}/stat").rsplit(")", 1)[1].split()[11:13]))
        clients = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ((user + nice + system) / ticks, (idle + iowait) / ticks,
                own / ticks + clients.ru_utime + clients.ru_stime)


def read_proc(name):
    return pathlib.Path("/proc", name).read_text(encoding="ascii")


class Table:
    """Markdown lines: a row for each figure, a column for each side."""

    RATE = ("tokens/s", lambda found: found["tokens_per_s"])
    CLOSED = [RATE, ("first token, p50, ms", lambda found: found["ttft_ms"]["p50"]),
              ("between tokens, p50, ms", lambda found: found["itl_ms"]["p50"]),
              ("between tokens, p99, ms", lambda found: found["itl_ms"]["p99"])]
    OPEN = [("requests/s within both goals", lambda found: found["goodput_requests_per_s"]),
            ("first token, p50, ms", lambda found: found["ttft_ms"]["p50"]),
            ("first token, p99, ms", lambda found: found["ttft_ms"]["p99"]),
            ("a token, mean of a request, p50, ms", lambda found: found["token_ms"]["p50"]),
            ("between tokens, p99, ms", lambda found: found["itl_ms"]["p99"])]

    def __init__(self):
        self._lines = ["| load | figure | Sluice, gRPC | Sluice, HTTP | llama-server "
                       "| HTTP by llama-server's |", "|---|---|---|---|---|---|"]

    def add(self, name, figures, rounds):
        """`rounds` has each side's answer by its name, round by round."""
        for label, of in figures:
            columns = {side: [of(each[side]) for each in rounds] for side in rounds[0]}
            ratios = [ours / theirs for ours, theirs in
                      zip(columns["Sluice, HTTP"], columns["llama-server"]) if theirs > 0]
            ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
            cells = [name, label, *map(spread, columns.values()), ratio]
            self._lines.append(f"| {' | '.join(cells)} |")

    def text(self):
        return "\n".join(self._lines)


class Comparison:
    """All rounds of all loads."""

    def __init__(self, options, binaries, log):
        self.table = Table()
        self.rounds = {}  # by load
        self._options = options
        self._binaries = binaries
        self._log = log

    def measure(self, streams, is_last):
        servers = Servers(self._binaries, streams, self._options, self._log)
        try:
            for side in servers.sides:
                load(self._binaries.sluice, side, ["--concurrency", streams, *WARM_UP])
            found = self._in_turns(f"{streams} at once", servers, Table.CLOSED, [
                "--concurrency", streams, "--duration", self._options.duration])
            if is_last and self._options.open_duration != "0s":
                rates = [each["Sluice, HTTP"]["tokens_per_s"] for each in found]
                rate = f"{statistics.median(rates) / OUTPUT_TOKENS / 2:.2f}"
                self._in_turns(f"{rate} requests/s", servers, Table.OPEN, [
                    "--rate", rate, "--duration", self._options.open_duration])
        finally:
            servers.stop()

    def _in_turns(self, name, servers, figures, flags):
        """The quietest rounds, of as many as it takes to have enough of them."""
        options, rounds = self._options, []
        for seed in range(options.attempts):
            rounds.append({side.name: load(self._binaries.sluice, side,
                                           [*flags, "--seed", 1 + seed])
                           for side in servers.sides})
            print(f"{name}: " + ", ".join(
                f"{side} {found['tokens_per_s']:.1f} tokens/s ({found['other_work']:.0%} others)"
                for side, found in rounds[-1].items()), file=sys.stderr)
            if sum(other_work(each) <= options.quiet for each in rounds) == options.rounds:
                break
        self.rounds[name] = sorted(rounds, key=other_work)[:options.rounds]
        self.table.add(name, figures, self.rounds[name])
        return self.rounds[name]


def other_work(found_round):
    return max(found["other_work"] for found in found_round.values())


def prepare(options, log):
    """Installs and converts what is not there."""
    environments = Environments(options.environments)
    sluice = options.binaries / "sluice"
    made = models.Models(options.work, environments, sluice, log)
    gguf = made.converted("llama_server", SHAPE, "int8") / "q8_0.gguf"
    return Binaries(sluice, made.package(SHAPE, "int8"), environments.llama_server(), gguf)


def show(report, comparison):
    print(f"{report['cpu']}, {report['threads']} threads, {report['date']}, {report['rounds']} "
          f"rounds; {SHAPE}'s shape, int8 and q8_0; prompts of {PROMPT_TOKENS} tokens, "
          f"{OUTPUT_TOKENS} greedy tokens; median (least–most)\n")
    print(comparison.table.text())
    print("\n".join(f"\n{name}: {value}" for name, value in report["versions"].items()))
    print(f"\nllama-server's flags: {report['llama_flags'] or 'its defaults'}")
    others = [other_work(each) for rounds in comparison.rounds.values() for each in rounds]
    print(f"\nother work on the cores in a round: {min(others):.0%} to {max(others):.0%}"
          f"\n\n{report['command']}")


def main():
    options = parse_arguments()
    stop_on_sigterm()
    options.log.parent.mkdir(parents=True, exist_ok=True)
    with options.log.open("w", encoding="utf-8") as log:
        try:
            binaries = prepare(options, log)
            comparison = Comparison(options, binaries, log)
            for streams in options.streams:
                comparison.measure(streams, streams == options.streams[-1])
        except Failed as error:
            sys.exit(f"failed: {error}")
        about_llama = run([binaries.llama_server, "--version"], stderr=subprocess.STDOUT)
        report = {**machine_report(options), "llama_flags": shlex.join(options.llama_flags),
                  "versions": {"sluice": run([binaries.sluice, "--version"]).strip(),
                               "llama-server": f"{about_llama.split()[1]}, the source in "
                                               f"{llama_cpp_requirement()}"},
                  "rounds_of": comparison.rounds}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    show(report, comparison)


if __name__ == "__main__":
    main()
