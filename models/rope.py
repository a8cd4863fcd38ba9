"""Rotary positions, and the ways to stretch them to longer contexts, for families to import.

They give what Transformers' modeling_rope_utils gives, in float32 and in its order of operations.
RoPE: Su et al. 2021, arXiv:2104.09864; YaRN and the kinds before it: Peng et al. 2023,
arXiv:2309.00071; llama3: Grattafiori et al. 2024, arXiv:2407.21783.
"""
import math
from typing import Dict, List

import torch
from sluice import Config
from torch import Tensor


# The base of the frequencies, under whichever of its names a config.json keeps it.
def rope_theta(config: Config, names: List[str]) -> float:
    theta = 0.0
    for name in names + ["rope_theta", "rope_parameters.rope_theta", "rope_scaling.rope_theta"]:
        value = config.number(name, theta)
        if theta != 0.0 and value != theta:
            config.refuse(name, "is not the base that the file gives elsewhere")
        theta = value
    return 10000.0 if theta == 0.0 else theta


# How positions are stretched: rope_scaling, or as Transformers 5 calls it, rope_parameters.
def rope_section(config: Config) -> str:
    for name in ["full_attention", "sliding_attention", "alpha", "mrope_section"]:
        config.expect("rope_scaling." + name, [])
        config.expect("rope_parameters." + name, [])
    if not config.has("rope_parameters"):
        return "rope_scaling."
    if config.has("rope_scaling"):
        config.refuse("rope_scaling", "is set beside rope_parameters")
    return "rope_parameters."


# What rope_table() needs to know. The stretching's name is the key of its factor.
#   positions: those that the model was trained for, max_position_embeddings
def rope_settings(config: Config, theta: float, rotary_size: int,
                  positions: int) -> Dict[str, float]:
    rope = {"theta": theta, "size": float(rotary_size), "positions": float(positions),
            "original": float(positions), "scale": 1.0}
    if rotary_size < 2 or rotary_size % 2 != 0:
        config.refuse("partial_rotary_factor", "leaves an odd number of rotated dimensions")
    section = rope_section(config)
    kind = config.text(section + "rope_type", config.text(section + "type", ""))
    config.expect(section + "type", [kind])
    if kind == "" and config.has(section + "factor"):
        config.refuse(section + "rope_type", "is missing")
    kinds = ["default", "linear", "dynamic", "llama3", "yarn"]
    config.expect(section + "type", kinds)
    config.expect(section + "rope_type", kinds)
    if kind == "" or kind == "default":
        return rope
    rope[kind] = config.number(section + "factor")
    if rope[kind] < 1.0:
        config.refuse(section + "factor", "is below 1")
    if kind == "llama3":
        rope["original"] = config.number(section + "original_max_position_embeddings")
        rope["low"] = config.number(section + "low_freq_factor")
        rope["high"] = config.number(section + "high_freq_factor")
    if kind == "yarn":
        rope["original"] = config.number(section + "original_max_position_embeddings",
                                         rope["positions"])
        rope["beta_fast"] = config.number(section + "beta_fast", 32.0)
        rope["beta_slow"] = config.number(section + "beta_slow", 1.0)
        rope["truncate"] = 1.0 if config.flag(section + "truncate", True) else 0.0
        scale = yarn_scale(rope[kind], 1.0)
        mscale = config.number(section + "mscale", 0.0)
        mscale_all = config.number(section + "mscale_all_dim", 0.0)
        if mscale != 0.0 and mscale_all != 0.0:
            scale = yarn_scale(rope[kind], mscale) / yarn_scale(rope[kind], mscale_all)
        rope["scale"] = config.number(section + "attention_factor", scale)
    return rope


# The context that the stretching is for.
def rope_context(rope: Dict[str, float]) -> int:
    context = rope["positions"]
    for kind in ["linear", "dynamic"]:
        if kind in rope:
            context = context * rope[kind]
    if "yarn" in rope:
        context = max(context, rope["original"] * rope["yarn"])
    return int(min(context, 1e15))


def yarn_scale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1.0 else 0.1 * mscale * math.log(factor) + 1.0


# The dimension that turns so many times over the original context.
def yarn_dimension(rope: Dict[str, float], rotations: float) -> float:
    turns = math.log(rope["original"] / (rotations * 2.0 * math.pi))
    return rope["size"] * turns / (2.0 * math.log(rope["theta"]))


def yarn_frequencies(rope: Dict[str, float], inverse: Tensor) -> Tensor:
    low = yarn_dimension(rope, rope["beta_fast"])
    high = yarn_dimension(rope, rope["beta_slow"])
    if rope["truncate"] != 0.0:
        low = float(math.floor(low))
        high = float(math.ceil(high))
    low = max(low, 0.0)
    high = min(high, rope["size"] - 1.0)
    if low == high:
        high = high + 0.001
    ramp = (torch.arange(int(rope["size"]) // 2).to(torch.float32) - low) / (high - low)
    keep = 1.0 - torch.clamp(ramp, 0, 1)
    return 1.0 / (rope["yarn"] * inverse) * (1.0 - keep) + 1.0 / inverse * keep


def llama3_frequencies(rope: Dict[str, float], frequencies: Tensor) -> Tensor:
    factor, low, high = rope["llama3"], rope["low"], rope["high"]
    wavelengths = 2.0 * math.pi / frequencies
    is_long = wavelengths > rope["original"] / low
    is_short = wavelengths < rope["original"] / high
    smooth = (rope["original"] / wavelengths - low) / (high - low)
    between = (1.0 - smooth) * frequencies / factor + smooth * frequencies
    stretched = torch.where(is_long, frequencies / factor, between)
    return torch.where(is_short, frequencies, stretched)


# float32 [positions, D_rot / 2]: the angle of every position and frequency.
def rope_angles(rope: Dict[str, float], context_length: int) -> Tensor:
    exponents = torch.arange(0, int(rope["size"]), 2).to(torch.float32) / rope["size"]
    inverse = torch.pow(rope["theta"], exponents)
    frequencies = 1.0 / inverse
    if "linear" in rope:
        frequencies = frequencies / rope["linear"]
    if "llama3" in rope:
        frequencies = llama3_frequencies(rope, frequencies)
    if "yarn" in rope:
        frequencies = yarn_frequencies(rope, inverse)
    angles = torch.outer(torch.arange(context_length).to(torch.float32), frequencies)
    trained = int(rope["positions"])
    if "dynamic" in rope and context_length > trained:
        # A position past the trained ones turns as if the context ended with it, so that its row
        # of the table is its own (docs/decisions/0008-dynamic-rope-goes-by-position.md).
        lengths = torch.arange(trained + 1, context_length + 1)
        factor, size = rope["dynamic"], rope["size"]
        growth = factor * lengths / rope["positions"] - (factor - 1.0)
        bases = rope["theta"] * torch.pow(growth, size / (size - 2.0))
        late = (lengths - 1).to(torch.float32).unsqueeze(1) / torch.pow(bases.unsqueeze(1),
                                                                         exponents)
        angles = torch.cat([angles.narrow(0, 0, trained), late])
    return angles


# float32 [positions, D_rot / 2, 2]: (cos, sin), as sluice.attention takes them.
def rope_table(rope: Dict[str, float], context_length: int) -> Tensor:
    angles = rope_angles(rope, context_length)
    return torch.stack([torch.cos(angles) * rope["scale"], torch.sin(angles) * rope["scale"]], -1)
