"""LLaMA and the models of its graph: Mistral, Qwen2, Qwen3.

Pre-norm blocks with RMSNorm, rotary positions, grouped queries and SwiGLU; Mistral looks back over
a window only, Qwen2 has biases on queries, keys and values, Qwen3 norms each of their heads.
TorchScript source, compiled by Sluice in C++ (docs/models.md says what a family file holds).
Touvron et al. 2023, arXiv:2302.13971; grouped queries: Ainslie et al. 2023, arXiv:2305.13245;
Jiang et al. 2023, arXiv:2310.06825; Qwen Team 2024, arXiv:2407.10671, and 2025, arXiv:2505.09388.
"""
from typing import Dict, List, Optional

import sluice
from common import biases, refuse_other_graphs, rows
from rope import rope_context, rope_settings, rope_table, rope_theta
from sluice import Checkpoint, Config, Weights
from torch import Tensor
from torch.nn import Module


class Llama(Module):
    vocabulary_size: int
    context_length: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    epsilon: float
    rope_settings: Dict[str, float]
    windows: List[int]
    qkv_biased: bool
    output_biased: bool
    mlp_biased: bool
    heads_normed: bool
    tied: bool
    embedding: Tensor
    attention_norm: List[Tensor]
    qkv: List[Tensor]
    qkv_bias: List[Optional[Tensor]]
    query_norm: List[Tensor]
    key_norm: List[Tensor]
    output: List[Tensor]
    output_bias: List[Optional[Tensor]]
    mlp_norm: List[Tensor]
    gate_up: List[Tensor]
    gate_up_bias: List[Optional[Tensor]]
    down: List[Tensor]
    down_bias: List[Optional[Tensor]]
    norm: Tensor
    head: Tensor
    rope: Tensor

    def forward(self, tokens: Tensor, positions: Tensor, cache: List[Tensor],
                plan: List[Tensor]) -> Tensor:
        scale = self.head_size ** -0.5
        x = sluice.embed(tokens, self.embedding)
        for i in range(self.num_layers):
            h = sluice.rms_norm(x, self.attention_norm[i], self.epsilon)
            h = sluice.linear(h, self.qkv[i], self.qkv_bias[i], "", None)
            if self.heads_normed:
                h = sluice.head_norm(h, self.query_norm[i], self.key_norm[i], self.num_heads,
                                     self.num_kv_heads, self.epsilon)
            h = sluice.attention(h, positions, cache[i], plan, self.num_heads, self.num_kv_heads,
                                 scale, self.rope, None, self.windows[i])
            x = sluice.linear(h, self.output[i], self.output_bias[i], "", x)
            h = sluice.rms_norm(x, self.mlp_norm[i], self.epsilon)
            h = sluice.swiglu(sluice.linear(h, self.gate_up[i], self.gate_up_bias[i], "", None))
            x = sluice.linear(h, self.down[i], self.down_bias[i], "", x)
        x = sluice.rms_norm(sluice.select_rows(x, plan), self.norm, self.epsilon)
        return sluice.logits(x, self.head)


def model_types() -> List[str]:
    return ["llama", "mistral", "qwen2", "qwen3"]


def configure(model: Llama, config: Config) -> None:
    refuse_other_graphs(config)
    config.expect("hidden_act", ["silu", "swish"])
    kind = config.text("model_type")
    model.vocabulary_size = config.count("vocab_size")
    model.hidden_size = config.count("hidden_size")
    model.intermediate_size = config.count("intermediate_size")
    model.num_layers = config.count("num_hidden_layers")
    model.num_heads = config.count("num_attention_heads")
    model.num_kv_heads = config.count("num_key_value_heads", model.num_heads)
    head_size = 128 if kind == "qwen3" else model.hidden_size // model.num_heads
    model.head_size = config.count("head_dim", head_size)
    model.epsilon = config.number("rms_norm_eps", 1e-6)
    contexts = {"llama": 2048, "mistral": 131072, "qwen2": 32768, "qwen3": 32768}
    positions = config.count("max_position_embeddings", contexts[kind])
    fraction = config.number("rope_parameters.partial_rotary_factor", 1.0)
    rotated = int(model.head_size * config.number("partial_rotary_factor", fraction))
    model.rope_settings = rope_settings(config, rope_theta(config, []), rotated, positions)
    model.context_length = rope_context(model.rope_settings)
    model.windows = windows(config, kind, model.num_layers)
    has_flags = kind == "llama" or kind == "qwen3"  # the others have no such field
    model.output_biased = has_flags and config.flag("attention_bias", False)
    model.qkv_biased = kind == "qwen2" or model.output_biased
    model.mlp_biased = kind == "llama" and config.flag("mlp_bias", False)
    model.heads_normed = kind == "qwen3"
    model.tied = config.flag("tie_word_embeddings", False)


# Positions that each layer looks back over; 0 is all of them.
def windows(config: Config, kind: str, num_layers: int) -> List[int]:
    window = 0
    first = 0  # layer with a window
    if kind == "llama":
        config.expect("sliding_window", [])
    elif kind == "mistral" or config.flag("use_sliding_window", False):
        window = 0 if config.is_null("sliding_window") else config.count("sliding_window", 4096)
        first = 0 if kind == "mistral" else config.integer("max_window_layers", 28)
    found = [0] * min(first, num_layers) + [window] * max(num_layers - first, 0)
    types = config.texts("layer_types")
    if len(types) != 0 and len(types) != num_layers:
        config.refuse("layer_types", "does not have num_hidden_layers entries")
    for i in range(len(types)):
        wanted = window if types[i] == "sliding_attention" else 0
        is_known = types[i] == "full_attention" or wanted > 0
        is_mixable = kind == "qwen2" or kind == "qwen3"
        if not is_known or (wanted != found[i] and not is_mixable):
            config.refuse("layer_types", "has '" + types[i] + "' for a layer, which model_type " +
                          kind + " does not have here")
        found[i] = wanted
    return found


def weights(model: Llama, checkpoint: Checkpoint, out: Weights) -> None:
    hidden = model.hidden_size
    queries = model.num_heads * model.head_size
    keys = model.num_kv_heads * model.head_size
    wide = model.intermediate_size
    out.table("rope", rope_table(model.rope_settings, model.context_length))
    out.put("embedding",
            checkpoint.take("model.embed_tokens.weight", [model.vocabulary_size, hidden]))
    for i in range(model.num_layers):
        layer = "model.layers." + str(i) + "."
        attention = layer + "self_attn."
        checkpoint.ignore(attention + "rotary_emb.inv_freq")
        out.append("attention_norm",
                   [checkpoint.take(layer + "input_layernorm.weight", [hidden])])
        names = [attention + "q_proj", attention + "k_proj", attention + "v_proj"]
        heights = [queries, keys, keys]
        out.append("qkv", rows(checkpoint, names, heights, hidden))
        out.append("qkv_bias", biases(checkpoint, names, heights, model.qkv_biased))
        if model.heads_normed:
            size = [model.head_size]
            out.append("query_norm", [checkpoint.take(attention + "q_norm.weight", size)])
            out.append("key_norm", [checkpoint.take(attention + "k_norm.weight", size)])
        names = [attention + "o_proj"]
        out.append("output", rows(checkpoint, names, [hidden], queries))
        out.append("output_bias", biases(checkpoint, names, [hidden], model.output_biased))
        out.append("mlp_norm",
                   [checkpoint.take(layer + "post_attention_layernorm.weight", [hidden])])
        names = [layer + "mlp.gate_proj", layer + "mlp.up_proj"]
        out.append("gate_up", rows(checkpoint, names, [wide, wide], hidden))
        out.append("gate_up_bias", biases(checkpoint, names, [wide, wide], model.mlp_biased))
        names = [layer + "mlp.down_proj"]
        out.append("down", rows(checkpoint, names, [hidden], wide))
        out.append("down_bias", biases(checkpoint, names, [hidden], model.mlp_biased))
    out.put("norm", checkpoint.take("model.norm.weight", [hidden]))
    if model.tied:
        checkpoint.ignore("lm_head.weight")
        out.alias("head", "embedding")
    else:
        out.put("head", checkpoint.take("lm_head.weight", [model.vocabulary_size, hidden]))
