#!/usr/bin/env python3
"""Writes a Hugging Face folder of a published shape with random bf16 weights, as fast as the disk takes it.

    checkpoints.py SHAPE FOLDER

What ../make_checkpoint.py does with Python alone, at a tenth of the speed: here torch draws the
numbers, on the GPU where there is one. The file is safetensors, of whose package nothing is needed.
"""

import argparse
import ctypes
import json
import math
import pathlib
import shutil
import struct

import torch

import shapes

PIECE_NUMBERS = 1 << 26
SCALE = 0.02


def header(tensors):
    """The file's beginning: names, sizes and places."""
    entries, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, sizes in tensors:
        end = offset + shapes.BYTES * math.prod(sizes)
        entries[name] = {"dtype": "BF16", "shape": sizes, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    text += b" " * (-(len(text) + 8) % 64)
    return struct.pack("<Q", len(text)) + text


class Source:
    """Random numbers in a buffer of the host's, which a file can take without a copy."""

    def __init__(self):
        has_gpu = torch.cuda.is_available()
        device = "cuda" if has_gpu else "cpu"
        self._generator = torch.Generator(device=device).manual_seed(1)
        self._numbers = torch.empty(PIECE_NUMBERS, dtype=torch.bfloat16, device=device)
        self._host = torch.empty(PIECE_NUMBERS, dtype=torch.bfloat16, pin_memory=has_gpu)

    def ones(self, count):
        self._host[:count].fill_(1)
        return self._view(count)

    def random(self, count):
        numbers = self._numbers[:count].normal_(0, SCALE, generator=self._generator)
        self._host[:count].copy_(numbers)
        return self._view(count)

    def _view(self, count):
        return (ctypes.c_char * (shapes.BYTES * count)).from_address(self._host.data_ptr())


def is_norm_weight(name):
    return name.endswith(("norm.weight", "ln_f.weight"))


def write_weights(path, tensors):
    source = Source()
    with path.open("wb", buffering=0) as file:
        file.write(header(tensors))
        for name, sizes in tensors:
            draw = source.ones if is_norm_weight(name) else source.random
            left = math.prod(sizes)
            while left > 0:
                count = min(left, PIECE_NUMBERS)
                write_all(file, memoryview(draw(count)).cast("B"))
                left -= count


def write_all(file, view):
    """A raw file may take less than it is given."""
    while view:
        view = view[file.write(view):]


def write_checkpoint(shape, folder):
    """Written aside and renamed at the end: half a folder never has its name."""
    half = folder.with_name(folder.name + ".half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    config = {**shapes.config(shape), "torch_dtype": "bfloat16"}
    (half / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_weights(half / "model.safetensors", shapes.tensors(shape))
    half.rename(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=shapes.NAMES)
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    write_checkpoint(options.shape, options.folder)


if __name__ == "__main__":
    main()
