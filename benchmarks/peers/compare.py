#!/usr/bin/env python3
"""Sluice against its peers on one random checkpoint, in turns, in one run.

Makes a checkpoint of a published shape with random bf16 weights, imports it into a package, then
runs Sluice, the peer, Sluice, the peer, ... each as its own process with the same number of
threads, prompt length, new tokens and sampling. Prints medians, spreads and the ratio of each pair,
and writes JSON. Exits 1 if a ratio is below its goal.

The peers live in a Python environment of their own in build/peers, made on first use (about 6 GB).

  benchmarks/peers/compare.py --shape bloom-560m --concurrency 1,16 --rounds 3
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
GOALS = {1: 1.5, 16: 2.0}  # ratio to Transformers' decode rate, by concurrency


def run(command, **kwargs) -> str:
    """Output of a command; its errors are shown and end the program."""
    result = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True,
                            check=False, **kwargs)
    if result.returncode != 0:
        sys.exit(f"failed ({result.returncode}): {' '.join(map(str, command))}")
    return result.stdout


def peer_python(folder: pathlib.Path) -> pathlib.Path:
    """The peers' environment, installed if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing the peers into {folder}", file=sys.stderr)
        run([sys.executable, "-m", "venv", folder])
        run([python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"])
    return python


def make_models(shape: str, work: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """(Hugging Face folder, package) of `shape`, made if they are not there."""
    checkpoint, package = work / shape, work / f"{shape}.package"
    if not (checkpoint / "config.json").exists():
        run([sys.executable, ROOT / "benchmarks" / "make_checkpoint.py", "--seed", "1", shape,
             checkpoint])
    if not package.exists():
        run([ROOT / "build/bin/sluice", "import", checkpoint, package])
    return checkpoint, package


def sluice(package, concurrency, args) -> dict:
    command = [ROOT / "build/bin/sluice", "bench", "offline", "--model", package, "--json",
               "--prompt-tokens", args.prompt_tokens, "--output-tokens", args.output_tokens,
               "--concurrency", concurrency, "--num-threads", args.threads]
    if args.greedy:
        command.append("--greedy")
    return json.loads(run(command))["runs"][0]


def transformers(python, checkpoint, concurrency, args) -> dict:
    command = [python, HERE / "transformers_peer.py", "--model", checkpoint, "--concurrency",
               concurrency, "--prompt-tokens", args.prompt_tokens, "--long", args.output_tokens,
               "--threads", args.threads]
    if args.greedy:
        command.append("--greedy")
    environment = dict(os.environ, OMP_NUM_THREADS=str(args.threads), HF_HUB_OFFLINE="1")
    return json.loads(run(command, env=environment))


def cpu_model() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def spread(values) -> str:
    return f"{statistics.median(values):8.1f} ({min(values):.1f}-{max(values):.1f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="bloom-560m")
    parser.add_argument("--concurrency", default="1,16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=50)
    parser.add_argument("--greedy", action="store_true", help="default: temperature 0.7, top-p 0.9")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "peers-models")
    parser.add_argument("--environment", type=pathlib.Path, default=ROOT / "build" / "peers",
                        help="Python environment of the peers")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here")
    args = parser.parse_args()

    python = peer_python(args.environment)
    args.work.mkdir(parents=True, exist_ok=True)
    checkpoint, package = make_models(args.shape, args.work)
    report = {"date": datetime.date.today().isoformat(), "cpu": cpu_model(), "shape": args.shape,
              "threads": args.threads, "sampled": not args.greedy, "rows": []}
    below = False
    print(f"{args.shape}, bf16, {args.threads} threads, {cpu_model()}, "
          f"{'greedy' if args.greedy else 'temperature 0.7, top-p 0.9'}, {args.rounds} rounds")
    for concurrency in map(int, args.concurrency.split(",")):
        ours, theirs = [], []
        for _ in range(args.rounds):
            ours.append(sluice(package, concurrency, args))
            theirs.append(transformers(python, checkpoint, concurrency, args))
        row = {"concurrency": concurrency, "sluice": ours, "transformers": theirs}
        for figure in ("decode_tokens_per_s", "prefill_tokens_per_s"):
            a, b = [r[figure] for r in ours], [r[figure] for r in theirs]
            ratio = statistics.median(x / y for x, y in zip(a, b))
            row[f"{figure}_ratio"] = ratio
            print(f"B={concurrency:<3} {figure:22} sluice {spread(a)}  transformers {spread(b)}"
                  f"  ratio {ratio:.2f}")
        goal = GOALS.get(concurrency)
        if goal and row["decode_tokens_per_s_ratio"] < goal:
            print(f"B={concurrency}: below the goal of {goal}x")
            below = True
        report["rows"].append(row)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
