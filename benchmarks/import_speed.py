#!/usr/bin/env python3
"""How fast `sluice import` is beside a plain copy of the same file, and what memory it takes.

    import_speed.py HF_DIR [--binary build/bin/sluice] [--dtype NAME] [--rounds N] [--cold]
                    [--golden]

Each round copies model.safetensors with cp, then puts it on the disk with sync(1), and imports the same
folder, which ends on the disk too; both in a new folder beside HF_DIR. --cold drops the source from the
page cache before each. Prints the times, import's share of the copy's speed, and the peak of its
anonymous memory (RssAnon; mapped files are not in it). Fails below 60 %, or above 512 MB. --golden lets the import load the model at its
end, for its golden logits; nothing fails then.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LEAST_SHARE = 0.6
MOST_BYTES = 512 << 20
ROOT = Path(__file__).resolve().parent.parent


def forget(path: Path) -> None:
    """Drops a file from the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def anonymous_bytes(pid: int) -> int:
    """The process's RssAnon now; 0 once it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    return 0


def timed_import(command: list[str]) -> tuple[float, int]:
    """Seconds, and the peak of anonymous memory."""
    start = time.monotonic()
    peak = 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(0.005)
    if process.returncode != 0:
        sys.exit("the import failed")
    return time.monotonic() - start, peak


def timed(*commands: list[str]) -> float:
    """Seconds of all commands."""
    start = time.monotonic()
    for command in commands:
        subprocess.run(command, check=True)
    return time.monotonic() - start


def main() -> None:
    """Measures, and prints a line a round and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--binary", default=str(ROOT / "build/bin/sluice"))
    parser.add_argument("--dtype", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--golden", action="store_true")
    arguments = parser.parse_args()
    weights = arguments.source / "model.safetensors"
    size = weights.stat().st_size
    shares, peaks = [], []
    for _ in range(arguments.rounds):
        folder = Path(tempfile.mkdtemp(prefix=".import-speed-", dir=arguments.source.parent))
        try:
            if arguments.cold:
                forget(weights)
            copy = folder / "copy"
            copied = timed(["cp", str(weights), str(copy)])
            on_disk = copied + timed(["sync", str(copy)])
            copy.unlink()
            if arguments.cold:
                forget(weights)
            command = [arguments.binary, "import", str(arguments.source), str(folder / "package"),
                       "--quiet"]
            if not arguments.golden:
                command += ["--no-golden"]
            if arguments.dtype:
                command += ["--dtype", arguments.dtype]
            seconds, peak = timed_import(command)
        finally:
            shutil.rmtree(folder)
        shares.append(on_disk / seconds)
        peaks.append(peak)
        print(f"cp {copied:.2f} s, on the disk after {on_disk:.2f} s ({size / 1e6 / on_disk:.0f} MB/s); "
              f"import {seconds:.2f} s ({size / 1e6 / seconds:.0f} MB/s), "
              f"{peak / 2**20:.0f} MiB of anonymous memory", flush=True)
    share = statistics.median(shares)
    print(f"import runs at {100 * share:.0f} % of the copy's speed (median), "
          f"{max(peaks) / 2**20:.0f} MiB at most")
    if not arguments.golden and (share < LEAST_SHARE or max(peaks) > MOST_BYTES):
        sys.exit("below the goal")


if __name__ == "__main__":
    main()
