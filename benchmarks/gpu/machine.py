"""The machine that a measurement ran on, and the code that it ran."""

import os
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def output_of(*command):
    """What a program prints; nothing if it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _cpu():
    found = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text("ascii"),
                      re.M)
    return found[1] if found else "unknown"


def _nvcc():
    program = os.environ.get("SLUICE_NVCC") or shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    found = re.search(r"release ([\d.]+)", output_of(program, "--version"))
    return found[1] if found else "unknown"


def describe():
    gpu = output_of("nvidia-smi", "--query-gpu=name,driver_version,memory.total",
                    "--format=csv,noheader")
    name, driver, memory = (gpu.splitlines()[0].split(", ") if gpu else ["none", "none", "none"])
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"gpu": name, "driver": driver, "gpu_memory": memory, "cuda": _nvcc(), "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)), "memory_gib": pages >> 30}


def commit():
    """Of this folder's clone, or what scripts/gpu_check --pack noted of the one that it came from."""
    packed = ROOT / ".gpu" / "commit"
    if packed.exists() and not (ROOT / ".git").exists():
        return packed.read_text(encoding="utf-8").strip()
    return output_of("git", "-C", str(ROOT), "describe", "--always", "--dirty") or "unknown"
