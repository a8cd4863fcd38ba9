#!/usr/bin/env python3
"""What CUDA's compiler says of each kernel: registers, spilled bytes, static block memory.

Usage: benchmarks/gpu/registers.py [--architecture sm_90] [--nvcc FILE] [--write FILE]
It needs no GPU. A kernel of decodes that spills more than is known is an error: a spill is traffic through memory
in loops that memory limits already.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEVICE = ROOT / "src/kernels/cuda/device"

# What only steps with prompts run; every other kernel is a decode's too.
PREFILL = ("attend_chunks_kernel", "plain_chunks_kernel", "multiply_many", "expand_pairs")
# Nobody has measured what these few bytes cost. By the beginning of a kernel's name.
MAX_SPILL_BYTES = {"attend_parts_kernel": 16}


def find_nvcc() -> str:
    own = ROOT / ".deps/cuda-13.0/bin/nvcc"
    return str(own) if own.exists() else "nvcc"


def compile_file(nvcc: str, source: pathlib.Path, architecture: str) -> str:
    """What ptxas prints."""
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [nvcc, "-std=c++20", "-O2", "-fmad=false", "--expt-relaxed-constexpr", "-cubin",
             f"-arch={architecture}", "-Xptxas", "-v", "-I", str(ROOT / "src"), "-I",
             str(ROOT / "include"), "-o", f"{folder}/out.cubin", str(source)],
            capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(run.stderr)
    return run.stdout + run.stderr


def demangle(names: list[str]) -> list[str]:
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                          check=True).stdout
    short = []
    for name in text.splitlines():
        name = re.sub(r"\(anonymous namespace\)::|sluice::kernels::(cuda::)?|^void ", "", name)
        short.append(re.sub(r"\((?!anonymous).*$", "", name))
    return short


def read(text: str) -> list[dict]:
    kernels = []
    for line in text.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)'", line):
            kernels.append({"name": match[1], "spilled": 0, "registers": 0, "memory": 0})
        elif match := re.search(r"(\d+) bytes spill stores", line):
            kernels[-1]["spilled"] = int(match[1])
        elif match := re.search(r"Used (\d+) registers", line):
            kernels[-1]["registers"] = int(match[1])
            if memory := re.search(r"(\d+) bytes smem", line):
                kernels[-1]["memory"] = int(memory[1])
    for kernel, name in zip(kernels, demangle([kernel["name"] for kernel in kernels])):
        kernel["name"] = name
    return kernels


def is_allowed(kernel: dict) -> bool:
    name = kernel["name"]
    if name.startswith(PREFILL):
        return True
    allowed = max((size for key, size in MAX_SPILL_BYTES.items() if name.startswith(key)), default=0)
    return kernel["spilled"] <= allowed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="sm_90")
    parser.add_argument("--nvcc", default=find_nvcc())
    parser.add_argument("--write")
    options = parser.parse_args()
    lines = [f"| kernel ({options.architecture}) | registers | spilled bytes |", "|---|---|---|"]
    bad = []
    for source in sorted(DEVICE.glob("*.cu")):
        for kernel in read(compile_file(options.nvcc, source, options.architecture)):
            lines.append(f"| `{kernel['name']}` | {kernel['registers']} | {kernel['spilled']} |")
            if not is_allowed(kernel):
                bad.append(kernel["name"])
    table = "\n".join(lines) + "\n"
    if options.write:
        pathlib.Path(options.write).write_text(table, encoding="utf-8")
    else:
        print(table, end="")
    for name in bad:
        print(f"{name} spills", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
