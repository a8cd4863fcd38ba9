"""GPT-2: pre-norm blocks with LayerNorm, learned positions, biases everywhere.

TorchScript source, compiled by Sluice in C++ (docs/models.md says what a family file holds).
Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""
from typing import List

import sluice
from common import activation, refuse_other_graphs, shared_out
from sluice import Checkpoint, Config, Weights
from torch import Tensor
from torch.nn import Module


class Gpt2(Module):
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
    scales: List[float]
    tied: bool
    embedding: Tensor
    position_embedding: Tensor
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

    def forward(self, tokens: Tensor, positions: Tensor, cache: List[Tensor],
                plan: List[Tensor]) -> Tensor:
        x = sluice.embed(tokens, self.embedding, None)
        x = sluice.embed(positions, self.position_embedding, x)
        for i in range(self.num_layers):
            h = sluice.layer_norm(x, self.attention_norm[i], self.attention_norm_bias[i],
                                  self.epsilon)
            h = sluice.linear(h, self.qkv[i], self.qkv_bias[i], "", None)
            h = sluice.attention(h, positions, cache[i], plan, self.num_heads, self.num_heads,
                                 self.scales[i], None, None, 0)
            x = sluice.linear(h, self.output[i], self.output_bias[i], "", x)
            h = sluice.layer_norm(x, self.mlp_norm[i], self.mlp_norm_bias[i], self.epsilon)
            h = sluice.linear(h, self.up[i], self.up_bias[i], self.activation, None)
            x = sluice.linear(h, self.down[i], self.down_bias[i], "", x)
        x = sluice.layer_norm(sluice.select_rows(x, plan), self.norm, self.norm_bias, self.epsilon)
        return sluice.logits(x, self.head)


def model_types() -> List[str]:
    return ["gpt2"]


# reorder_and_upcast_attn passes: it asks for attention in float32, which ours always is.
def configure(model: Gpt2, config: Config) -> None:
    refuse_other_graphs(config)
    model.vocabulary_size = config.count("vocab_size")
    model.context_length = config.count("n_positions",
                                        config.count("max_position_embeddings", 1024))
    model.hidden_size = config.count("n_embd", config.count("hidden_size", 768))
    model.intermediate_size = config.count("n_inner", 4 * model.hidden_size)
    model.num_layers = config.count("n_layer", config.count("num_hidden_layers", 12))
    model.num_heads = config.count("n_head", config.count("num_attention_heads", 12))
    model.num_kv_heads = model.num_heads
    model.head_size = shared_out(config, model.hidden_size, model.num_heads)
    model.epsilon = config.number("layer_norm_epsilon", 1e-5)
    model.activation = activation(config, "activation_function", "gelu_new")
    model.tied = config.flag("tie_word_embeddings", True)
    scale = model.head_size ** -0.5 if config.flag("scale_attn_weights", True) else 1.0
    model.scales = [scale] * model.num_layers
    if config.flag("scale_attn_by_inverse_layer_idx", False):
        model.scales = [scale / (i + 1) for i in range(model.num_layers)]


# A checkpoint's layers hold their weights as [K, N], ours are [N, K].
def transposed(checkpoint: Checkpoint, name: str, height: int, width: int) -> List[Tensor]:
    return [checkpoint.take(name + ".weight", [width, height]).t().contiguous()]


def weights(model: Gpt2, checkpoint: Checkpoint, out: Weights) -> None:
    hidden = model.hidden_size
    wide = model.intermediate_size
    root = "transformer." if checkpoint.has("transformer.ln_f.weight") else ""
    vectors = {"ln_1.weight": "attention_norm", "ln_1.bias": "attention_norm_bias",
               "attn.c_proj.bias": "output_bias", "mlp.c_proj.bias": "down_bias",
               "ln_2.weight": "mlp_norm", "ln_2.bias": "mlp_norm_bias"}
    out.put("embedding", checkpoint.take(root + "wte.weight", [model.vocabulary_size, hidden]))
    out.put("position_embedding",
            checkpoint.take(root + "wpe.weight", [model.context_length, hidden]))
    for i in range(model.num_layers):
        layer = root + "h." + str(i) + "."
        checkpoint.ignore(layer + "attn.bias")  # the causal mask
        checkpoint.ignore(layer + "attn.masked_bias")
        for name, attribute in vectors.items():
            out.append(attribute, [checkpoint.take(layer + name, [hidden])])
        out.append("qkv", transposed(checkpoint, layer + "attn.c_attn", 3 * hidden, hidden))
        out.append("qkv_bias", [checkpoint.take(layer + "attn.c_attn.bias", [3 * hidden])])
        out.append("output", transposed(checkpoint, layer + "attn.c_proj", hidden, hidden))
        out.append("up", transposed(checkpoint, layer + "mlp.c_fc", wide, hidden))
        out.append("up_bias", [checkpoint.take(layer + "mlp.c_fc.bias", [wide])])
        out.append("down", transposed(checkpoint, layer + "mlp.c_proj", hidden, wide))
    out.put("norm", checkpoint.take(root + "ln_f.weight", [hidden]))
    out.put("norm_bias", checkpoint.take(root + "ln_f.bias", [hidden]))
    if model.tied:
        checkpoint.ignore("lm_head.weight")
        out.alias("head", "embedding")
    else:
        out.put("head", checkpoint.take("lm_head.weight", [model.vocabulary_size, hidden]))
