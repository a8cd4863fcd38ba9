"""GPT-NeoX: LayerNorm, partly rotated heads; attention and MLP read the same input side by side.

TorchScript source, compiled by Sluice in C++ (docs/models.md says what a family file holds).
Black et al. 2022, arXiv:2204.06745; Pythia: Biderman et al. 2023, arXiv:2304.01373.
"""
from typing import Dict, List, Optional

import sluice
from common import activation, refuse_other_graphs, shared_out, split_heads
from rope import rope_context, rope_settings, rope_table, rope_theta
from sluice import Checkpoint, Config, Weights
from torch import Tensor
from torch.nn import Module


class GptNeox(Module):
    vocabulary_size: int
    context_length: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    epsilon: float
    activation: str
    rope_settings: Dict[str, float]
    is_parallel: bool
    attention_biased: bool
    tied: bool
    embedding: Tensor
    attention_norm: List[Tensor]
    attention_norm_bias: List[Tensor]
    qkv: List[Tensor]
    qkv_bias: List[Optional[Tensor]]
    output: List[Tensor]
    output_bias: List[Optional[Tensor]]
    mlp_norm: List[Tensor]
    mlp_norm_bias: List[Tensor]
    up: List[Tensor]
    up_bias: List[Tensor]
    down: List[Tensor]
    down_bias: List[Tensor]
    norm: Tensor
    norm_bias: Tensor
    head: Tensor
    rope: Tensor

    def forward(self, tokens: Tensor, positions: Tensor, cache: List[Tensor],
                plan: List[Tensor]) -> Tensor:
        scale = self.head_size ** -0.5
        x = sluice.embed(tokens, self.embedding)
        for i in range(self.num_layers):
            h = sluice.layer_norm(x, self.attention_norm[i], self.attention_norm_bias[i],
                                  self.epsilon)
            h = sluice.linear(h, self.qkv[i], self.qkv_bias[i], "", None)
            h = sluice.attention(h, positions, cache[i], plan, self.num_heads, self.num_heads,
                                 scale, self.rope, None, 0)
            attended = sluice.linear(h, self.output[i], self.output_bias[i], "", x)
            h = sluice.layer_norm(x if self.is_parallel else attended, self.mlp_norm[i],
                                  self.mlp_norm_bias[i], self.epsilon)
            h = sluice.linear(h, self.up[i], self.up_bias[i], self.activation, None)
            x = sluice.linear(h, self.down[i], self.down_bias[i], "", attended)
        x = sluice.layer_norm(sluice.select_rows(x, plan), self.norm, self.norm_bias, self.epsilon)
        return sluice.logits(x, self.head)


def model_types() -> List[str]:
    return ["gpt_neox"]


def configure(model: GptNeox, config: Config) -> None:
    refuse_other_graphs(config)
    model.vocabulary_size = config.count("vocab_size")
    model.hidden_size = config.count("hidden_size")
    model.intermediate_size = config.count("intermediate_size", 24576)
    model.num_layers = config.count("num_hidden_layers")
    model.num_heads = config.count("num_attention_heads")
    model.num_kv_heads = model.num_heads
    model.head_size = shared_out(config, model.hidden_size, model.num_heads)
    model.epsilon = config.number("layer_norm_eps", 1e-5)
    model.activation = activation(config, "hidden_act", "gelu")
    fraction = config.number("rope_parameters.partial_rotary_factor", 0.25)
    rotated = int(model.head_size * config.number("rotary_pct", fraction))
    theta = rope_theta(config, ["rotary_emb_base"])
    positions = config.count("max_position_embeddings", 2048)
    model.rope_settings = rope_settings(config, theta, rotated, positions)
    model.context_length = rope_context(model.rope_settings)
    model.is_parallel = config.flag("use_parallel_residual", True)
    model.attention_biased = config.flag("attention_bias", True)
    model.tied = config.flag("tie_word_embeddings", False)


def weights(model: GptNeox, checkpoint: Checkpoint, out: Weights) -> None:
    hidden = model.hidden_size
    wide = model.intermediate_size
    vectors = {"input_layernorm.weight": "attention_norm",
               "input_layernorm.bias": "attention_norm_bias",
               "post_attention_layernorm.weight": "mlp_norm",
               "post_attention_layernorm.bias": "mlp_norm_bias",
               "mlp.dense_4h_to_h.bias": "down_bias"}
    out.table("rope", rope_table(model.rope_settings, model.context_length))
    out.put("embedding",
            checkpoint.take("gpt_neox.embed_in.weight", [model.vocabulary_size, hidden]))
    for i in range(model.num_layers):
        layer = "gpt_neox.layers." + str(i) + "."
        for name in ["bias", "masked_bias", "rotary_emb.inv_freq"]:  # mask, computed tables
            checkpoint.ignore(layer + "attention." + name)
        for name, attribute in vectors.items():
            out.append(attribute, [checkpoint.take(layer + name, [hidden])])
        fused = layer + "attention.query_key_value"
        weight = checkpoint.take(fused + ".weight", [3 * hidden, hidden])
        out.append("qkv", split_heads(weight, model.num_heads))
        dense = layer + "attention.dense"
        out.append("output", [checkpoint.take(dense + ".weight", [hidden, hidden])])
        qkv_bias: List[Tensor] = []
        output_bias: List[Tensor] = []
        if model.attention_biased:
            bias = checkpoint.take(fused + ".bias", [3 * hidden])
            qkv_bias = split_heads(bias, model.num_heads)
            output_bias = [checkpoint.take(dense + ".bias", [hidden])]
        out.append("qkv_bias", qkv_bias)
        out.append("output_bias", output_bias)
        up = layer + "mlp.dense_h_to_4h."
        out.append("up", [checkpoint.take(up + "weight", [wide, hidden])])
        out.append("up_bias", [checkpoint.take(up + "bias", [wide])])
        down = layer + "mlp.dense_4h_to_h.weight"
        out.append("down", [checkpoint.take(down, [hidden, wide])])
    out.put("norm", checkpoint.take("gpt_neox.final_layer_norm.weight", [hidden]))
    out.put("norm_bias", checkpoint.take("gpt_neox.final_layer_norm.bias", [hidden]))
    if model.tied:
        checkpoint.ignore("embed_out.weight")
        out.alias("head", "embedding")
    else:
        out.put("head", checkpoint.take("embed_out.weight", [model.vocabulary_size, hidden]))
