"""The random checkpoints of tests/golden/variants: what each is, and how its weights are drawn.

golden.py writes them. They are small, and together they cover what the families' graphs can do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY = 199  # odd, so that no kernel can count on a multiple of its tile
SMALL_VOCABULARY = 67
TOKENS = {"bos_token_id": 1, "eos_token_id": 2}


@dataclass
class Variant:
    """A checkpoint: its config, the dtype it is stored in, and a rewriting of its files."""

    config: Callable[[], PretrainedConfig]
    dtype: torch.dtype
    rewrite: Callable[[Path], None] | None = None  # before the golden data is made
    rewrite_config: Callable[[Path], None] | None = None  # after it


def llama_config(heads: int, kv_heads: int, **more: object) -> LlamaConfig:
    """Returns a two-layer LLaMA of head size 16 unless `more` says otherwise."""
    settings: dict[str, object] = {
        "hidden_size": 16 * heads,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "max_position_embeddings": 256,
    }
    return LlamaConfig(
        vocab_size=VOCABULARY,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        **(TOKENS | settings | more),
    )


def bloom_config(heads: int, layers: int) -> BloomConfig:
    """Returns a BLOOM of head size 16."""
    return BloomConfig(
        vocab_size=VOCABULARY,
        hidden_size=16 * heads,
        n_layer=layers,
        n_head=heads,
        seq_length=256,
        pad_token_id=3,
        **TOKENS,
    )


def small(config: type[PretrainedConfig], **more: object) -> PretrainedConfig:
    """Returns a config of LLaMA's graph, two layers, hidden size 32, unless `more` says otherwise."""
    settings: dict[str, object] = {
        "vocab_size": SMALL_VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
    }
    return config(**(TOKENS | settings | more))


def small_gpt2(**more: object) -> GPT2Config:
    """Returns a two-layer GPT-2 of hidden size 36 and 3 heads."""
    return GPT2Config(
        vocab_size=SMALL_VOCABULARY,
        n_positions=128,
        n_embd=36,
        n_layer=2,
        n_head=3,
        **(TOKENS | more),
    )


def small_gpt_neox(**more: object) -> GPTNeoXConfig:
    """Returns a two-layer GPT-NeoX of hidden size 32."""
    return GPTNeoXConfig(
        vocab_size=SMALL_VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=72,
        max_position_embeddings=256,
        **(TOKENS | more),
    )


def change_config(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Rewrites a folder's config.json."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def without_prefix(folder: Path, **more: torch.Tensor) -> None:
    """Rewrites a checkpoint's tensors without "transformer." before their names."""
    tensors = load_file(folder / "model.safetensors")
    renamed = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(renamed | more, folder / "model.safetensors", metadata={"format": "pt"})


def published_bloom_form(folder: Path) -> None:
    """Rewrites a folder as bigscience published bloom-560m: other names, the same model."""

    def change(config: dict[str, object]) -> None:
        config["n_embed"] = config.pop("hidden_size")
        config["num_attention_heads"] = config.pop("n_head")

    change_config(folder, change)
    without_prefix(folder)


def published_gpt2_form(folder: Path) -> None:
    """Rewrites a folder as openai-community published gpt2: other names, and the causal mask."""
    mask = torch.tril(torch.ones(1, 1, 8, 8))
    without_prefix(folder, **{f"h.{layer}.attn.bias": mask.clone() for layer in range(2)})


def transformers_5_form(folder: Path) -> None:
    """Rewrites a config.json as Transformers 5 saves it: everything in rope_parameters."""

    def change(config: dict[str, object]) -> None:
        rope = config.pop("rope_scaling", None) or {"rope_type": "default"}
        rope["rope_theta"] = config.pop("rope_theta")
        config["rope_parameters"] = rope

    change_config(folder, change)


def without_layer_types(folder: Path) -> None:
    """Rewrites a config.json as it was before Transformers saved layer_types in it."""
    change_config(folder, lambda config: config.pop("layer_types"))


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
YARN_MSCALE = {
    "type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 16.0,
    "beta_slow": 0.5,
    "mscale": 0.8,
    "mscale_all_dim": 1.2,
    "truncate": False,
}

# New ones go to the end: a variant's place is its seed.
VARIANTS: dict[str, Variant] = {
    "llama_mha_untied_f32": Variant(
        lambda: llama_config(3, 3, tie_word_embeddings=False), torch.float32
    ),
    "llama_gqa_tied_bf16": Variant(
        lambda: llama_config(4, 2, tie_word_embeddings=True, rms_norm_eps=1e-5), torch.bfloat16
    ),
    "llama_mqa_untied_f16": Variant(
        lambda: llama_config(4, 1, tie_word_embeddings=False, rope_theta=500000.0), torch.float16
    ),
    "llama_head_size_bf16": Variant(  # heads * head size differs from the hidden size
        lambda: llama_config(3, 1, tie_word_embeddings=False, head_dim=32), torch.bfloat16
    ),
    "bloom_3_heads_f32": Variant(lambda: bloom_config(3, 2), torch.float32),
    "bloom_4_heads_bf16": Variant(
        lambda: bloom_config(4, 2), torch.bfloat16, rewrite=published_bloom_form
    ),
    "bloom_6_heads_f16": Variant(lambda: bloom_config(6, 1), torch.float16),
    "llama_linear_rope_biased_f32": Variant(
        lambda: small(
            LlamaConfig,
            head_dim=12,
            num_attention_heads=4,
            num_key_value_heads=2,
            attention_bias=True,
            mlp_bias=True,
            rope_scaling={"rope_type": "linear", "factor": 2.0},
        ),
        torch.float32,
    ),
    "llama_dynamic_rope_f32": Variant(
        lambda: small(
            LlamaConfig,
            max_position_embeddings=40,
            rope_scaling={"rope_type": "dynamic", "factor": 4.0},
        ),
        torch.float32,
    ),
    "llama_llama3_rope_bf16": Variant(
        lambda: small(
            LlamaConfig,
            head_dim=32,
            max_position_embeddings=512,
            rope_theta=500000.0,
            rope_scaling=dict(LLAMA3),
        ),
        torch.bfloat16,
    ),
    "llama_yarn_mscale_f16": Variant(
        lambda: small(LlamaConfig, head_dim=32, rope_scaling=dict(YARN_MSCALE)), torch.float16
    ),
    "llama_partial_rotary_f32": Variant(
        lambda: small(LlamaConfig, partial_rotary_factor=0.5), torch.float32
    ),
    "mistral_window_bf16": Variant(
        lambda: small(MistralConfig, sliding_window=12, num_attention_heads=4), torch.bfloat16
    ),
    "mistral_full_f16": Variant(
        lambda: small(MistralConfig, sliding_window=None, head_dim=24, rope_theta=1e6),
        torch.float16,
    ),
    "qwen2_window_from_layer_1_f32": Variant(
        lambda: small(
            Qwen2Config,
            use_sliding_window=True,
            sliding_window=9,
            max_window_layers=1,
            tie_word_embeddings=True,
        ),
        torch.float32,
        rewrite_config=without_layer_types,
    ),
    "qwen2_yarn_bf16": Variant(
        lambda: small(Qwen2Config, head_dim=32, rope_theta=1e6, rope_scaling=dict(YARN)),
        torch.bfloat16,
        rewrite_config=transformers_5_form,
    ),
    "qwen3_tied_bf16": Variant(
        lambda: small(Qwen3Config, head_dim=32, rope_theta=1e6, tie_word_embeddings=True),
        torch.bfloat16,
    ),
    "qwen3_layer_types_biased_f32": Variant(
        lambda: small(
            Qwen3Config,
            head_dim=20,
            num_attention_heads=4,
            num_key_value_heads=2,
            attention_bias=True,
            use_sliding_window=True,
            sliding_window=10,
            layer_types=["sliding_attention", "full_attention"],
        ),
        torch.float32,
    ),
    "bloom_post_layernorm_f32": Variant(
        lambda: BloomConfig(
            vocab_size=SMALL_VOCABULARY,
            hidden_size=40,
            n_layer=2,
            n_head=5,
            apply_residual_connection_post_layernorm=True,
            **TOKENS,
        ),
        torch.float32,
    ),
    "gpt2_tied_f32": Variant(small_gpt2, torch.float32, rewrite=published_gpt2_form),
    "gpt2_scaled_by_layer_bf16": Variant(
        lambda: small_gpt2(
            n_inner=56,
            tie_word_embeddings=False,
            scale_attn_by_inverse_layer_idx=True,
            reorder_and_upcast_attn=True,
            activation_function="gelu",
        ),
        torch.bfloat16,
    ),
    "gpt_neox_parallel_f32": Variant(small_gpt_neox, torch.float32),
    "gpt_neox_sequential_bf16": Variant(
        lambda: small_gpt_neox(
            use_parallel_residual=False,
            attention_bias=False,
            rotary_pct=1.0,
            rotary_emb_base=25000,
            hidden_act="gelu_fast",
            rope_scaling={"type": "linear", "factor": 2.0},
        ),
        torch.bfloat16,
    ),
}


def randomize(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Gives every tensor values that matter: biases, norms and logits that differ clearly.

    Where the embedding is the output matrix too, the layers must outweigh it, or every token would
    be followed by itself.
    """
    gain = 4.0 if model.config.tie_word_embeddings else 1.5
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_embedding = "embed" in name and "norm" not in name and "embed_out" not in name
        if is_embedding or "wte" in name or "wpe" in name:
            value = noise * (1.5 / gain)
        elif parameter.ndim == 2:
            width = parameter.shape[0 if ".c_" in name else 1]  # GPT-2's layers are [K, N]
            value = noise * (gain / width**0.5)
        else:
            value = noise * 0.2 + (1.0 if name.endswith("weight") else 0.0)
        parameter.data.copy_(value)
