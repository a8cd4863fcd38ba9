"""BLOOM: pre-norm blocks with LayerNorm, ALiBi instead of positions, biases everywhere.

TorchScript source, compiled by Sluice in C++ (docs/models.md says what a family file holds).
BigScience 2022, arXiv:2211.05100; ALiBi: Press et al. 2021, arXiv:2108.12409.
"""
from typing import List

import sluice
import torch
from common import refuse_other_graphs, shared_out, split_heads
from sluice import Checkpoint, Config, Weights
from torch import Tensor
from torch.nn import Module


class Bloom(Module):
    vocabulary_size: int
    context_length: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    epsilon: float
    residual_after_norm: bool
    tied: bool
    embedding: Tensor
    embedding_norm: Tensor
    embedding_norm_bias: Tensor
    attention_norm: List[Tensor]
    attention_norm_bias: List[Tensor]
    qkv: List[Tensor]
    qkv_bias: List[Tensor]
    output: List[Tensor]
    output_bias: List[Tensor]
    mlp_norm: List[Tensor]
    mlp_norm_bias: List[Tensor]
    up: List[Tensor]
    up_bias: List[Tensor]
    down: List[Tensor]
    down_bias: List[Tensor]
    norm: Tensor
    norm_bias: Tensor
    head: Tensor
    slopes: Tensor

    def forward(self, tokens: Tensor, positions: Tensor, cache: List[Tensor],
                plan: List[Tensor]) -> Tensor:
        scale = self.head_size ** -0.5
        x = sluice.embed(tokens, self.embedding)
        x = sluice.layer_norm(x, self.embedding_norm, self.embedding_norm_bias, self.epsilon)
        for i in range(self.num_layers):
            h = sluice.layer_norm(x, self.attention_norm[i], self.attention_norm_bias[i],
                                  self.epsilon)
            residual = h if self.residual_after_norm else x
            h = sluice.linear(h, self.qkv[i], self.qkv_bias[i], "", None)
            h = sluice.attention(h, positions, cache[i], plan, self.num_heads, self.num_heads,
                                 scale, None, self.slopes, 0)
            x = sluice.linear(h, self.output[i], self.output_bias[i], "", residual)
            h = sluice.layer_norm(x, self.mlp_norm[i], self.mlp_norm_bias[i], self.epsilon)
            residual = h if self.residual_after_norm else x
            h = sluice.linear(h, self.up[i], self.up_bias[i], "gelu_tanh", None)
            x = sluice.linear(h, self.down[i], self.down_bias[i], "", residual)
        x = sluice.layer_norm(sluice.select_rows(x, plan), self.norm, self.norm_bias, self.epsilon)
        return sluice.logits(x, self.head)


def model_types() -> List[str]:
    return ["bloom"]


def configure(model: Bloom, config: Config) -> None:
    refuse_other_graphs(config)
    model.vocabulary_size = config.count("vocab_size")
    model.context_length = config.count("seq_length", 2048)
    model.hidden_size = config.count("n_embed", config.count("hidden_size", 64))
    model.num_layers = config.count("n_layer", config.count("num_hidden_layers", 2))
    model.num_heads = config.count("n_head", config.count("num_attention_heads", 8))
    model.num_kv_heads = model.num_heads
    model.head_size = shared_out(config, model.hidden_size, model.num_heads)
    model.epsilon = config.number("layer_norm_epsilon", 1e-5)
    model.residual_after_norm = config.flag("apply_residual_connection_post_layernorm", False)
    model.tied = config.flag("tie_word_embeddings", True)
    config.expect("n_inner", [str(4 * model.hidden_size)])


# A geometric sequence for the greatest power of two below; the odd members of the next one follow.
def alibi_slopes(num_heads: int) -> Tensor:
    power = 1
    while 2 * power <= num_heads:
        power = 2 * power
    base = torch.tensor(2.0 ** (-8.0 / power)).to(torch.float32)
    slopes = torch.pow(base, torch.arange(1, 1 + power))
    base = torch.tensor(2.0 ** (-4.0 / power)).to(torch.float32)
    return torch.cat([slopes, torch.pow(base, torch.arange(1, 1 + 2 * (num_heads - power), 2))])


def weights(model: Bloom, checkpoint: Checkpoint, out: Weights) -> None:
    hidden = model.hidden_size
    root = "transformer." if checkpoint.has("transformer.ln_f.weight") else ""
    vectors = {"input_layernorm.weight": "attention_norm",
               "input_layernorm.bias": "attention_norm_bias",
               "self_attention.dense.bias": "output_bias",
               "post_attention_layernorm.weight": "mlp_norm",
               "post_attention_layernorm.bias": "mlp_norm_bias",
               "mlp.dense_4h_to_h.bias": "down_bias"}
    out.table("slopes", alibi_slopes(model.num_heads))
    out.put("embedding",
            checkpoint.take(root + "word_embeddings.weight", [model.vocabulary_size, hidden]))
    normed = root + "word_embeddings_layernorm."
    out.put("embedding_norm", checkpoint.take(normed + "weight", [hidden]))
    out.put("embedding_norm_bias", checkpoint.take(normed + "bias", [hidden]))
    for i in range(model.num_layers):
        layer = root + "h." + str(i) + "."
        for name, attribute in vectors.items():
            out.append(attribute, [checkpoint.take(layer + name, [hidden])])
        fused = layer + "self_attention.query_key_value."
        weight = checkpoint.take(fused + "weight", [3 * hidden, hidden])
        out.append("qkv", split_heads(weight, model.num_heads))
        bias = checkpoint.take(fused + "bias", [3 * hidden])
        out.append("qkv_bias", split_heads(bias, model.num_heads))
        dense = layer + "self_attention.dense.weight"
        out.append("output", [checkpoint.take(dense, [hidden, hidden])])
        up = layer + "mlp.dense_h_to_4h."
        out.append("up", [checkpoint.take(up + "weight", [4 * hidden, hidden])])
        out.append("up_bias", [checkpoint.take(up + "bias", [4 * hidden])])
        down = layer + "mlp.dense_4h_to_h.weight"
        out.append("down", [checkpoint.take(down, [hidden, 4 * hidden])])
    out.put("norm", checkpoint.take(root + "ln_f.weight", [hidden]))
    out.put("norm_bias", checkpoint.take(root + "ln_f.bias", [hidden]))
    if model.tied:
        checkpoint.ignore("lm_head.weight")
        out.alias("head", "embedding")
    else:
        out.put("head", checkpoint.take("lm_head.weight", [model.vocabulary_size, hidden]))
