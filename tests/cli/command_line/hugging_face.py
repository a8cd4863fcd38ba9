"""Writes small random LLaMA checkpoints as Hugging Face folders, without torch."""
import json
import random
import struct


def write_safetensors(path, tensors):
    """tensors: {name: (shape, float32 bytes)}"""
    header, offset = {}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, data in tensors.values():
            file.write(data)


def llama_config(hidden=32, layers=2, heads=4, kv_heads=2, vocabulary=64, intermediate=64):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
            "intermediate_size": intermediate, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "vocab_size": vocabulary, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
            "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2}


def llama_tensors(config, seed):
    random_source = random.Random(seed)

    def matrix(*shape):
        count = 1
        for size in shape:
            count *= size
        # A repeated block of random values: large folders are quick to make.
        block = [random_source.gauss(0, 0.1) for _ in range(min(count, 4096))]
        data = struct.pack(f"<{len(block)}f", *block)
        return list(shape), (data * (count // len(block) + 1))[:4 * count]

    hidden, inner = config["hidden_size"], config["intermediate_size"]
    kv_size = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    tensors = {"model.embed_tokens.weight": matrix(config["vocab_size"], hidden),
               "model.norm.weight": matrix(hidden),
               "lm_head.weight": matrix(config["vocab_size"], hidden)}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        tensors |= {layer + "input_layernorm.weight": matrix(hidden),
                    layer + "post_attention_layernorm.weight": matrix(hidden),
                    layer + "self_attn.q_proj.weight": matrix(hidden, hidden),
                    layer + "self_attn.k_proj.weight": matrix(kv_size, hidden),
                    layer + "self_attn.v_proj.weight": matrix(kv_size, hidden),
                    layer + "self_attn.o_proj.weight": matrix(hidden, hidden),
                    layer + "mlp.gate_proj.weight": matrix(inner, hidden),
                    layer + "mlp.up_proj.weight": matrix(inner, hidden),
                    layer + "mlp.down_proj.weight": matrix(hidden, inner)}
    return tensors


def write_llama(folder, seed, **sizes):
    """Makes the folder and returns it."""
    folder.mkdir(parents=True)
    config = llama_config(**sizes)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", llama_tensors(config, seed))
    return folder
