"""What several families need to read a config.json and a checkpoint; they import it."""
from typing import List

from sluice import Checkpoint, Config
from torch import Tensor


# Fields by which relatives of a model type ask for another graph. Those of the type itself that are
# not implemented are its family's to refuse.
def refuse_other_graphs(config: Config) -> None:
    config.expect("pruned_heads", [])
    for name in ["num_experts", "num_local_experts", "n_routed_experts", "kv_lora_rank",
                 "attn_logit_softcapping", "final_logit_softcapping", "attention_chunk_size",
                 "no_rope_layer_interval"]:
        config.expect(name, ["0", "0.0"])
    for name in ["alibi", "use_alibi", "qk_norm", "use_qk_norm", "qk_layernorm",
                 "add_cross_attention"]:
        config.expect(name, ["false"])
    for name in ["embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale",
                 "scale_emb"]:
        config.expect(name, ["1", "1.0"])
    for name in ["attention_multiplier", "clip_qkv", "no_rope_layers", "cross_attention_layers"]:
        config.expect(name, [])


# The size of each head where hidden_size has to be shared out evenly.
def shared_out(config: Config, hidden_size: int, num_heads: int) -> int:
    if hidden_size % num_heads != 0:
        config.refuse("hidden_size", "is no multiple of the number of heads")
    return hidden_size // num_heads


# The name that sluice.linear has for an activation.
def activation(config: Config, name: str, fallback: str) -> str:
    ours = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
            "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}
    config.expect(name, list(ours.keys()))
    return ours[config.text(name, fallback)]


# Weights and biases of layers that are computed as one, below each other.
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


# Rows of a checkpoint's fused weight or bias go head by head, [H, 3, D]; ours go [3, H, D].
def split_heads(fused: Tensor, num_heads: int) -> List[Tensor]:
    by_head = fused.unflatten(0, [num_heads, 3, -1])
    return [by_head.select(1, part).flatten(0, 1) for part in range(3)]
