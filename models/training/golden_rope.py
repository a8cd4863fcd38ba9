"""The rotary tables of tests/golden/rope: configs as published models have them, and small ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RopeCase:
    """Fields of a config.json, and the positions whose rows are kept."""

    fields: dict[str, object]
    positions: list[int]


def case(
    scaling: dict[str, object] | None,
    *positions: int,
    head_dim: int = 16,
    trained: int = 64,
    **more: object,
) -> RopeCase:
    """Returns a case of two heads."""
    fields: dict[str, object] = {
        "hidden_size": 2 * head_dim,
        "num_attention_heads": 2,
        "head_dim": head_dim,
        "max_position_embeddings": trained,
        "rope_scaling": scaling,
    }
    return RopeCase(fields | more, list(positions))


LLAMA_3_1 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LLAMA_3_2 = LLAMA_3_1 | {"factor": 32.0}
QWEN_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
DEEPSEEK_YARN = {
    "type": "yarn",
    "factor": 40,
    "original_max_position_embeddings": 4096,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 0.707,
}
ROPE_CASES: dict[str, RopeCase] = {
    "default": case(None, 0, 1, 63),
    "default_named": case({"rope_type": "default"}, 1, 63, rope_theta=500000.0),
    "partial": case(None, 1, 63, partial_rotary_factor=0.5),
    "partial_rounded_down": case(None, 1, 63, head_dim=20, partial_rotary_factor=0.33),
    "linear": case({"type": "linear", "factor": 2.5}, 1, 63, 159),
    "dynamic": case({"rope_type": "dynamic", "factor": 2.0}, 0, 1, 63, 64, 65, 100, 127),
    "dynamic_partial": case(
        {"type": "dynamic", "factor": 3.3}, 1, 47, 48, 150, trained=48, partial_rotary_factor=0.75
    ),
    "llama_3_1_8b": case(
        LLAMA_3_1, 1, 100, 8192, 131071, head_dim=128, trained=131072, rope_theta=500000.0
    ),
    "llama_3_2_1b": case(
        LLAMA_3_2, 1, 100, 8192, 131071, head_dim=64, trained=131072, rope_theta=500000.0
    ),
    "qwen_2_5_yarn": case(
        QWEN_YARN, 1, 100, 32768, 131071, head_dim=128, trained=32768, rope_theta=1000000.0
    ),
    "yarn_of_max_position": case({"rope_type": "yarn", "factor": 2.0}, 1, 64, 127),
    "yarn_mscale": case(DEEPSEEK_YARN, 1, 4096, 20000, head_dim=64, trained=20480),
    "yarn_attention_factor": case(
        {"rope_type": "yarn", "factor": 8.0, "attention_factor": 0.9, "truncate": False}, 1, 200
    ),
    "yarn_factor_1": case({"rope_type": "yarn", "factor": 1.0}, 1, 63),
}
