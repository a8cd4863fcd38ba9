"""The two sides of a comparison: Sluice's own command line, and peers as processes that stay."""

import dataclasses
import json
import os
import pathlib
import re
import select
import subprocess
import tempfile
import time

import models
from environments import Failed, run
from frozen import FrozenProcess

HERE = pathlib.Path(__file__).resolve().parent
SPARE_TOKENS = 64  # room beside prompt and completion
ANSWER_S = 600  # a peer that is silent so long has failed


def read_into_page_cache(folder):
    """So that a start-up measures the program, not the disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass


class Sluice:
    """A process of its own for each figure."""

    def __init__(self, folder, models_, threads):
        self._binary = folder / "sluice"
        self._kernels_bench = folder / "kernels_bench"
        self._models = models_
        self._threads = threads

    def version(self):
        return run([self._binary, "--version"]).strip()

    def read_bandwidth(self):
        """Bytes a second that all threads read together, now."""
        text = run([self._kernels_bench, "--benchmark_filter=^none$"],
                   env=dict(os.environ, SLUICE_BENCH_THREADS=str(self._threads)),
                   stderr=subprocess.DEVNULL)
        return float(re.search(r"read limit ([\d.]+) GB/s", text)[1]) * 1e9

    def measure(self, shape, case):
        package = self._models.package(shape, case.precision)
        if case.workload.kind == "first_token":
            return self._first_token(package, case.workload)
        return self._bench(package, case)

    def _bench(self, package, case):
        work = case.workload
        new = 1 if work.kind == "prefill" else work.long
        command = [self._binary, "bench", "offline", "--model", package, "--json", "--quiet",
                   "--prompt-tokens", work.prompt_tokens, "--output-tokens", new,
                   "--concurrency", work.streams, "--num-threads", self._threads,
                   "--repetitions", 1,
                   "--max-model-len", work.prompt_tokens + new + SPARE_TOKENS, *case.flags]
        if not work.sampled:
            command.append("--greedy")
        found = json.loads(run(command))["runs"][0]
        return found[f"{work.kind}_tokens_per_s"]

    def _first_token(self, package, work):
        """Seconds from starting the process to the first token on its stdout."""
        read_into_page_cache(package)
        tokens = ",".join(str(100 + i) for i in range(work.prompt_tokens))
        command = [self._binary, "generate", "--model", package, "--token-ids", tokens,
                   "--max-tokens", 1, "--temperature", 0, "--ignore-eos", "--json", "--quiet",
                   "--num-threads", self._threads]
        begin = time.perf_counter()
        with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE) as process:
            line = process.stdout.readline()
            seconds = time.perf_counter() - begin
        if not line or len(json.loads(line)["token_ids"]) != 1:
            raise Failed("sluice generate gave no token")
        return seconds

    def generate_greedy(self, package, prompts, num_new):
        """Tokens that follow each prompt."""
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            for prompt in prompts:
                print(json.dumps({"token_ids": prompt}), file=file)
            file.flush()
            text = run([self._binary, "generate", "--model", package, "--input", file.name,
                        "--max-tokens", num_new, "--temperature", 0, "--ignore-eos", "--json",
                        "--quiet", "--num-threads", self._threads])
        return [json.loads(line)["token_ids"] for line in text.splitlines()]


class PeerProcess(FrozenProcess):
    """A peer with its model loaded, frozen while it is not measured."""

    def __init__(self, command, environment, log):
        self.about = None
        super().__init__(command, env=environment, text=True, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=log)

    def wait_until_ready(self):
        self.about = self._read()

    def measure(self, workload):
        with self:
            print(json.dumps(dataclasses.asdict(workload)), file=self.process.stdin, flush=True)
            return self._read()["tokens_per_s"]

    def _read(self):
        came = select.select([self.process.stdout], [], [], ANSWER_S)[0]
        line = self.process.stdout.readline() if came else ""
        if not line:
            raise Failed(f"no answer from {' '.join(self.command)}")
        return json.loads(line)


class Peers:
    """The processes of all peers."""

    def __init__(self, environments, models_, threads, log):
        self._environments = environments
        self._models = models_
        self._threads = threads
        self._log = log
        self._running = {}
        self.about = {}  # version and flags by "system precision"

    def measure(self, shape, case):
        if case.workload.kind == "first_token":
            return self._first_token(shape, case)
        key = (case.system, shape, case.precision)
        if key not in self._running:
            self._running[key] = PeerProcess(self._command(shape, case), self._environment(),
                                             self._log)
            self.about[f"{case.system} {case.precision}"] = self._running[key].about
        try:
            return self._running[key].measure(case.workload)
        except Failed:
            self._running.pop(key).stop()
            raise

    def keep_only(self, shape, cases):
        """Ends the processes that no later measurement needs."""
        needed = {(case.system, shape, case.precision) for case in cases}
        for key in [key for key in self._running if key not in needed]:
            self._running.pop(key).stop()

    def stop(self):
        """Ends every process."""
        for process in self._running.values():
            process.stop()
        self._running.clear()

    def prepare(self, shape, case):
        """Installs and converts what is not there."""
        self._command(shape, case)

    def _first_token(self, shape, case):
        command = self._command(shape, case)
        read_into_page_cache(self._models.converted(case.system, shape, case.precision))
        text = run([*command, "--first-token"], env=self._environment(), stderr=self._log)
        return json.loads(text)["first_token_s"]

    def _command(self, shape, case):
        model = self._models.converted(case.system, shape, case.precision)
        return [self._environments.python(case.system), HERE / f"{case.system}_peer.py", "--model",
                model, "--precision", case.precision, "--vocabulary-size",
                models.vocabulary_size(shape), "--threads", self._threads]

    def _environment(self):
        return dict(os.environ, OMP_NUM_THREADS=str(self._threads), HF_HUB_OFFLINE="1",
                    TOKENIZERS_PARALLELISM="false", VLLM_CPU_KVCACHE_SPACE="3",
                    VLLM_CPU_OMP_THREADS_BIND=f"0-{self._threads - 1}",
                    VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_NO_USAGE_STATS="1")
