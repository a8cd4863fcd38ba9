"""LLaMA: pre-norm blocks with RMSNorm, rotary positions, grouped queries and SwiGLU.

TorchScript source, compiled by Sluice in C++ (docs/models.md says what a family file holds).
Touvron et al. 2023, arXiv:2302.13971; grouped queries: Ainslie et al. 2023, arXiv:2305.13245.
"""
from typing import List, Optional

import sluice
import torch
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
    rope_theta: float
    attention_bias: bool
    mlp_bias: bool
    tied: bool
    embedding: Tensor
    attention_norm: List[Tensor]
    qkv: List[Tensor]
    qkv_bias: List[Optional[Tensor]]
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
            h = sluice.attention(h, positions, cache[i], plan, self.num_heads, self.num_kv_heads,
                                 scale, self.rope, None, 0)
            x = sluice.linear(h, self.output[i], self.output_bias[i], "", x)
            h = sluice.rms_norm(x, self.mlp_norm[i], self.epsilon)
            h = sluice.swiglu(sluice.linear(h, self.gate_up[i], self.gate_up_bias[i], "", None))
            x = sluice.linear(h, self.down[i], self.down_bias[i], "", x)
        x = sluice.rms_norm(sluice.select_rows(x, plan), self.norm, self.epsilon)
        return sluice.logits(x, self.head)


def model_types() -> List[str]:
    return ["llama"]


def configure(model: Llama, config: Config) -> None:
    config.expect("hidden_act", ["silu"])
    config.expect("rope_scaling.rope_type", ["default"])
    config.expect("rope_scaling.type", ["default"])
    config.expect("rope_parameters.rope_type", ["default"])
    config.expect("partial_rotary_factor", ["1.0", "1"])
    config.expect("sliding_window", [])
    model.vocabulary_size = config.count("vocab_size")
    model.context_length = config.count("max_position_embeddings", 2048)
    model.hidden_size = config.count("hidden_size")
    model.intermediate_size = config.count("intermediate_size")
    model.num_layers = config.count("num_hidden_layers")
    model.num_heads = config.count("num_attention_heads")
    model.num_kv_heads = config.count("num_key_value_heads", model.num_heads)
    model.head_size = config.count("head_dim", model.hidden_size // model.num_heads)
    model.epsilon = config.number("rms_norm_eps", 1e-6)
    theta = config.number("rope_parameters.rope_theta", 10000.0)
    model.rope_theta = config.number("rope_theta", theta)
    model.attention_bias = config.flag("attention_bias", False)
    model.mlp_bias = config.flag("mlp_bias", False)
    model.tied = config.flag("tie_word_embeddings", False)


# (cos, sin) of every position and frequency, in float32 as Transformers computes them.
def rope_table(context_length: int, head_size: int, theta: float) -> Tensor:
    exponents = torch.arange(0, head_size, 2).to(torch.float32) / head_size
    frequencies = 1.0 / torch.pow(theta, exponents)
    angles = torch.outer(torch.arange(context_length).to(torch.float32), frequencies)
    return torch.stack([torch.cos(angles), torch.sin(angles)], -1)


def rows(checkpoint: Checkpoint, names: List[str], heights: List[int],
         width: int) -> List[Tensor]:
    parts: List[Tensor] = []
    for i in range(len(names)):
        parts.append(checkpoint.take(names[i] + ".weight", [heights[i], width]))
    return parts


def biases(checkpoint: Checkpoint, names: List[str], heights: List[int],
           present: bool) -> List[Tensor]:
    parts: List[Tensor] = []
    if present:
        for i in range(len(names)):
            parts.append(checkpoint.take(names[i] + ".bias", [heights[i]]))
    return parts


def weights(model: Llama, checkpoint: Checkpoint, out: Weights) -> None:
    hidden = model.hidden_size
    queries = model.num_heads * model.head_size
    keys = model.num_kv_heads * model.head_size
    wide = model.intermediate_size
    out.table("rope", rope_table(model.context_length, model.head_size, model.rope_theta))
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
        out.append("qkv_bias", biases(checkpoint, names, heights, model.attention_bias))
        names = [attention + "o_proj"]
        out.append("output", rows(checkpoint, names, [hidden], queries))
        out.append("output_bias", biases(checkpoint, names, [hidden], model.attention_bias))
        out.append("mlp_norm",
                   [checkpoint.take(layer + "post_attention_layernorm.weight", [hidden])])
        names = [layer + "mlp.gate_proj", layer + "mlp.up_proj"]
        out.append("gate_up", rows(checkpoint, names, [wide, wide], hidden))
        out.append("gate_up_bias", biases(checkpoint, names, [wide, wide], model.mlp_bias))
        names = [layer + "mlp.down_proj"]
        out.append("down", rows(checkpoint, names, [hidden], wide))
        out.append("down_bias", biases(checkpoint, names, [hidden], model.mlp_bias))
    out.put("norm", checkpoint.take("model.norm.weight", [hidden]))
    if model.tied:
        checkpoint.ignore("lm_head.weight")
        out.alias("head", "embedding")
    else:
        out.put("head", checkpoint.take("lm_head.weight", [model.vocabulary_size, hidden]))
