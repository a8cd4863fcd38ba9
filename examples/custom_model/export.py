#!/usr/bin/env python3
"""Exports a model of one's own for Sluice: a PyTorch module that torch.jit.script compiles.

    export.py --out FOLDER [--golden FILE] [--seed N]

The network is one that no built-in family is: attention and a squared-ReLU MLP side by side on one
norm (as in GPT-J), two layers of 32, random weights. Its forward() calls Sluice's operators, which exist
in C++ only; Python needs their schemas alone. FOLDER is what `sluice import`, `generate` and `serve` take.

--golden writes the logits and greedy tokens that PyTorch itself computes from the same weights, with
ordinary matrix products: what Sluice has to give. Needs torch, nothing else.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn

# As in src/kernels/schemas.h; only the operators that the module calls.
SCHEMAS = (
    "embed(Tensor tokens, Tensor weight) -> Tensor",
    "rms_norm(Tensor x, Tensor weight, float epsilon) -> Tensor",
    'linear(Tensor x, Tensor weight, Tensor? bias=None, str activation="", Tensor? residual=None)'
    " -> Tensor",
    "attention(Tensor qkv, Tensor positions, Tensor(a!) cache, Tensor[] plan, int num_heads, "
    "int num_kv_heads, float scale, Tensor? rope=None, Tensor? alibi_slopes=None, int window=0)"
    " -> Tensor",
    "select_rows(Tensor x, Tensor[] plan) -> Tensor",
    "logits(Tensor x, Tensor weight) -> Tensor",
)
LIBRARY = torch.library.Library("sluice", "DEF")
for schema in SCHEMAS:
    LIBRARY.define(schema)

PROMPT = [7, 3, 42, 59, 0, 11, 11, 28, 5, 36, 2, 19, 54, 1, 33, 8, 40, 23]
NEW_TOKENS = 24


class ParallelBlock(nn.Module):
    """x + attention(norm(x)) + mlp(norm(x))."""

    def __init__(self, hidden: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        size = hidden // heads
        self.heads: int = heads
        self.kv_heads: int = kv_heads
        self.scale: float = size**-0.5
        self.norm = nn.Parameter(1 + 0.1 * torch.randn(hidden))
        self.qkv = nn.Parameter(0.3 * torch.randn((heads + 2 * kv_heads) * size, hidden))
        self.output = nn.Parameter(0.2 * torch.randn(hidden, hidden))
        self.up = nn.Parameter(0.2 * torch.randn(4 * hidden, hidden))
        self.up_bias = nn.Parameter(0.1 * torch.randn(4 * hidden))
        self.down = nn.Parameter(0.1 * torch.randn(hidden, 4 * hidden))

    def forward(self, x: Tensor, positions: Tensor, cache: Tensor, plan: list[Tensor],
                slopes: Tensor) -> Tensor:
        h = torch.ops.sluice.rms_norm(x, self.norm, 1e-5)
        qkv = torch.ops.sluice.linear(h, self.qkv)
        attended = torch.ops.sluice.attention(qkv, positions, cache, plan, self.heads,
                                              self.kv_heads, self.scale, None, slopes)
        x = torch.ops.sluice.linear(attended, self.output, None, "", x)
        wide = torch.ops.sluice.linear(h, self.up, self.up_bias, "relu")
        return torch.ops.sluice.linear(torch.square(wide), self.down, None, "", x)

    def reference(self, x: Tensor, slopes: Tensor) -> Tensor:
        """The same for one whole sequence, in plain PyTorch."""
        h = rms_norm(x, self.norm)
        length, size = x.shape[0], x.shape[1] // self.heads
        q, k, v = (h @ self.qkv.T).split(
            [self.heads * size, self.kv_heads * size, self.kv_heads * size], -1)
        q = q.view(length, self.heads, size).transpose(0, 1)
        share = self.heads // self.kv_heads
        k, v = (each.view(length, self.kv_heads, size).transpose(0, 1).repeat_interleave(share, 0)
                for each in (k, v))
        distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
        scores = self.scale * (q @ k.transpose(1, 2)) + slopes[:, None, None] * distance
        scores = scores.masked_fill(distance > 0, float("-inf"))
        attended = (scores.softmax(-1) @ v).transpose(0, 1).reshape(length, -1)
        wide = torch.relu(h @ self.up.T + self.up_bias)
        return x + attended @ self.output.T + wide.square() @ self.down.T


class Custom(nn.Module):
    """The program: its forward() has the one signature that Sluice calls."""

    def __init__(self) -> None:
        super().__init__()
        # These six integers are what Sluice has to know of a model.
        self.vocabulary_size: int = 61
        self.context_length: int = 128
        self.num_layers: int = 2
        self.num_heads: int = 4
        self.num_kv_heads: int = 2
        self.head_size: int = 8
        hidden = self.num_heads * self.head_size
        self.embedding = nn.Parameter(torch.randn(self.vocabulary_size, hidden))
        self.layers = nn.ModuleList(ParallelBlock(hidden, self.num_heads, self.num_kv_heads)
                                    for _ in range(self.num_layers))
        self.norm = nn.Parameter(1 + 0.1 * torch.randn(hidden))
        self.head = nn.Parameter(0.5 * torch.randn(self.vocabulary_size, hidden))
        self.register_buffer("slopes", 2.0 ** -(2.0 * torch.arange(1, self.num_heads + 1)))

    def forward(self, tokens: Tensor, positions: Tensor, cache: list[Tensor],
                plan: list[Tensor]) -> Tensor:
        x = torch.ops.sluice.embed(tokens, self.embedding)
        for i, layer in enumerate(self.layers):
            x = layer(x, positions, cache[i], plan, self.slopes)
        x = torch.ops.sluice.rms_norm(torch.ops.sluice.select_rows(x, plan), self.norm, 1e-5)
        return torch.ops.sluice.logits(x, self.head)

    @torch.jit.unused
    def reference(self, tokens: list[int]) -> Tensor:
        """Logits of every position, in plain PyTorch."""
        x = self.embedding[torch.tensor(tokens)]
        for layer in self.layers:
            x = layer.reference(x, self.slopes)
        return rms_norm(x, self.norm) @ self.head.T


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """Zhang and Sennrich 2019."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight


def golden(model: Custom) -> dict[str, object]:
    """What the model gives for PROMPT: all logits, and the greedy tokens after it."""
    tokens = list(PROMPT)
    for _ in range(NEW_TOKENS):
        tokens.append(int(model.reference(tokens)[-1].argmax()))
    return {"prompt": PROMPT, "logits": model.reference(PROMPT).tolist(),
            "greedy": tokens[len(PROMPT):]}


def main() -> None:
    """Writes program.pt, with the weights in it, and config.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--golden", type=Path, help="file for the expected logits and tokens")
    parser.add_argument("--seed", type=int, default=4)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    model = Custom().eval().requires_grad_(False)
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.jit.script(model).save(str(arguments.out / "program.pt"))
    # What else is known of the model: here the tokens that end a text.
    (arguments.out / "config.json").write_text(json.dumps({"eos_token_id": 2}) + "\n")
    if arguments.golden:
        arguments.golden.write_text(json.dumps(golden(model)) + "\n")


if __name__ == "__main__":
    main()
