"""The published shapes that are measured on a GPU, and what a step of theirs must read and compute."""

import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import make_checkpoint  # noqa: E402

NAMES = ("bloom-560m", "llama-3.2-1b", "llama-3.1-8b", "bloom-7b1")
BYTES = 2  # of a number in bf16


def config(shape):
    return make_checkpoint.SHAPES[shape]


def is_bloom(shape):
    return config(shape)["model_type"] == "bloom"


def tensors(shape):
    """Names and sizes in the order of the file."""
    make = make_checkpoint.bloom_tensors if is_bloom(shape) else make_checkpoint.llama_tensors
    return list(make(config(shape)))


def checkpoint_bytes(shape):
    return sum(BYTES * math.prod(sizes) for _, sizes in tensors(shape))


def _is_tied(shape):
    return is_bloom(shape) or config(shape)["tie_word_embeddings"]


def weight_bytes(shape):
    """Bytes of the weights that a decode step reads: of an embedding that is not tied, nearly none."""
    return sum(BYTES * math.prod(sizes) for name, sizes in tensors(shape)
               if _is_tied(shape) or name != "model.embed_tokens.weight")


def kv_bytes(shape):
    """Bytes of one token's keys and values."""
    of = config(shape)
    if is_bloom(shape):
        return 2 * of["n_layer"] * of["hidden_size"] * BYTES
    return 2 * of["num_hidden_layers"] * of["num_key_value_heads"] * of["head_dim"] * BYTES


def prefill_flops(shape, num_tokens):
    """Operations of a prompt: its products with every layer's weights, and causal attention.

    The logits of one row are left out, they are none of the prompt's work.
    """
    of = config(shape)
    layers = of["n_layer"] if is_bloom(shape) else of["num_hidden_layers"]
    width = (of["hidden_size"] if is_bloom(shape)
             else of["num_attention_heads"] * of["head_dim"])
    matrices = sum(math.prod(sizes) for name, sizes in tensors(shape)
                   if len(sizes) == 2 and "embed" not in name and name != "lm_head.weight")
    return 2 * num_tokens * matrices + layers * 2 * width * num_tokens * (num_tokens + 1)
