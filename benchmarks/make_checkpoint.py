#!/usr/bin/env python3
"""Writes a Hugging Face folder of a published model's shape, with random weights.

    make_checkpoint.py SHAPE FOLDER [--dtype bf16|f16|f32] [--seed N] [--layers N] [--tokenizer]

For benchmarks: speed depends on the shape and the number format, not on what the weights are.
Prompts are token ids; --tokenizer writes a tokenizer.json for programs that cannot do without.
Needs Python alone; streams to the disk in small pieces.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PIECE_ELEMENTS = 1 << 22

SHAPES: dict[str, dict[str, object]] = {
    # With a longer context than published: ALiBi has no limit, and 4,096 tokens are measured.
    "bloom-560m": {
        "model_type": "bloom",
        "architectures": ["BloomForCausalLM"],
        "hidden_size": 1024,
        "n_layer": 24,
        "n_head": 16,
        "vocab_size": 250880,
        "seq_length": 8192,
        "layer_norm_epsilon": 1e-5,
        "eos_token_id": 2,
    },
    # Without the llama3 scaling of its rotary positions, which does not change the speed.
    "llama-3.2-1b": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "eos_token_id": 128001,
    },
    # Without the llama3 scaling, as above.
    "llama-3.1-8b": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "eos_token_id": 128001,
    },
    "bloom-7b1": {
        "model_type": "bloom",
        "architectures": ["BloomForCausalLM"],
        "hidden_size": 4096,
        "n_layer": 30,
        "n_head": 32,
        "vocab_size": 250880,
        "seq_length": 8192,
        "layer_norm_epsilon": 1e-5,
        "eos_token_id": 2,
    },
    "llama-2-7b": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "eos_token_id": 2,
    },
}

# Most significant byte of a number: both signs, two steps of the exponent. With any byte below it
# that gives sizes from about 0.002 to 0.03 (bf16, f32) or 0.008 to 0.03 (f16).
HIGH_BYTES = {"bf16": b"\x3c\xbc\x3b\xbb", "f32": b"\x3c\xbc\x3b\xbb", "f16": b"\x24\xa4\x20\xa0"}
ONE = {"bf16": b"\x80\x3f", "f32": b"\x00\x00\x80\x3f", "f16": b"\x00\x3c"}

Tensor = tuple[str, list[int]]


def bloom_tensors(config: dict[str, object]) -> Iterator[Tensor]:
    """Yields names and shapes in the order of the file."""
    hidden, layers, vocabulary = (int(str(config[k])) for k in ("hidden_size", "n_layer", "vocab_size"))
    yield "transformer.word_embeddings.weight", [vocabulary, hidden]
    norms = ["transformer.word_embeddings_layernorm"]
    for i in range(layers):
        prefix = f"transformer.h.{i}"
        for name, rows, columns in (
            ("self_attention.query_key_value", 3 * hidden, hidden),
            ("self_attention.dense", hidden, hidden),
            ("mlp.dense_h_to_4h", 4 * hidden, hidden),
            ("mlp.dense_4h_to_h", hidden, 4 * hidden),
        ):
            yield f"{prefix}.{name}.weight", [rows, columns]
            yield f"{prefix}.{name}.bias", [rows]
        norms += [f"{prefix}.input_layernorm", f"{prefix}.post_attention_layernorm"]
    for norm in [*norms, "transformer.ln_f"]:
        yield f"{norm}.weight", [hidden]
        yield f"{norm}.bias", [hidden]


def llama_tensors(config: dict[str, object]) -> Iterator[Tensor]:
    """Yields names and shapes in the order of the file."""

    def size(name: str) -> int:
        return int(str(config[name]))

    hidden, wide, vocabulary = size("hidden_size"), size("intermediate_size"), size("vocab_size")
    heads, kv_heads = size("num_attention_heads"), size("num_key_value_heads")
    head_size = int(str(config.get("head_dim", hidden // heads)))
    yield "model.embed_tokens.weight", [vocabulary, hidden]
    for i in range(size("num_hidden_layers")):
        prefix = f"model.layers.{i}"
        yield f"{prefix}.input_layernorm.weight", [hidden]
        yield f"{prefix}.self_attn.q_proj.weight", [heads * head_size, hidden]
        yield f"{prefix}.self_attn.k_proj.weight", [kv_heads * head_size, hidden]
        yield f"{prefix}.self_attn.v_proj.weight", [kv_heads * head_size, hidden]
        yield f"{prefix}.self_attn.o_proj.weight", [hidden, heads * head_size]
        yield f"{prefix}.post_attention_layernorm.weight", [hidden]
        yield f"{prefix}.mlp.gate_proj.weight", [wide, hidden]
        yield f"{prefix}.mlp.up_proj.weight", [wide, hidden]
        yield f"{prefix}.mlp.down_proj.weight", [hidden, wide]
    yield "model.norm.weight", [hidden]
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", [vocabulary, hidden]


def elements(shape: list[int]) -> int:
    """Returns the product of a shape."""
    product = 1
    for count in shape:
        product *= count
    return product


def write_tensor(file: BinaryIO, tensor: Tensor, dtype: str, source: random.Random) -> None:
    """Writes ones for a norm's weight, random numbers for everything else."""
    name, shape = tensor
    if "norm" in name and name.endswith("weight") or name.endswith("ln_f.weight"):
        file.write(ONE[dtype] * elements(shape))
        return
    width = len(ONE[dtype])
    high = bytes(HIGH_BYTES[dtype][byte // 64] for byte in range(256))
    left = elements(shape)
    while left > 0:
        count = min(left, PIECE_ELEMENTS)
        piece = bytearray(width * count)
        piece[width - 1 :: width] = source.randbytes(count).translate(high)
        piece[width - 2 :: width] = source.randbytes(count)
        file.write(piece)
        left -= count


def write_weights(path: Path, tensors: list[Tensor], dtype: str, seed: int) -> int:
    """Writes one safetensors file and returns its bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in tensors:
        end = offset + elements(shape) * len(ONE[dtype])
        header[name] = {"dtype": dtype.upper(), "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 64)
    source = random.Random(seed)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            write_tensor(file, tensor, dtype, source)
            if sys.stderr.isatty():
                print(f"\r{path.name}: {file.tell() >> 20} of {offset >> 20} MiB", end="",
                      file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return offset


def byte_characters() -> list[str]:
    """Returns the printable character of each byte, as byte-level BPE writes it (GPT-2)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def write_tokenizer(folder: Path, vocabulary_size: int, end: int) -> None:
    """Writes a byte-level BPE of 256 bytes, and words without merges for the ids above.

    The token with the id `end` is the only special one.
    """
    tokens = [*byte_characters(), *(f"w{i}" for i in range(256, vocabulary_size))]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                  "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer) + "\n")
    special = {f"{name}_token": tokens[end] for name in ("bos", "eos", "unk")}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")


def main() -> None:
    """Parses the command line and writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=sorted(ONE), default="bf16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, help="fewer layers than published")
    parser.add_argument("--tokenizer", action="store_true", help="with a tokenizer.json")
    options = parser.parse_args()

    config = dict(SHAPES[options.shape])
    is_bloom = config["model_type"] == "bloom"
    if options.layers:
        config["n_layer" if is_bloom else "num_hidden_layers"] = options.layers
    config["torch_dtype"] = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[options.dtype]
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = list((bloom_tensors if is_bloom else llama_tensors)(config))
    if options.tokenizer:
        write_tokenizer(options.folder, int(str(config["vocab_size"])),
                        int(str(config["eos_token_id"])))
    write_weights(options.folder / "model.safetensors", tensors, options.dtype, options.seed)


if __name__ == "__main__":
    main()
