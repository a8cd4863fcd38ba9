"""Writes small random LLaMA checkpoints as Hugging Face folders, without torch."""
import json
import math
import random
import struct


def safetensors_header(shapes, dtype, element_bytes):
    """The file's first bytes, and how many bytes of data follow them."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + element_bytes * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, offset


def write_safetensors(path, tensors):
    """tensors: {name: (shape, float32 bytes)}"""
    shapes = {name: shape for name, (shape, _) in tensors.items()}
    header, _ = safetensors_header(shapes, "F32", 4)
    path.write_bytes(header + b"".join(data for _, data in tensors.values()))


def write_hollow_safetensors(path, shapes, dtype, element_bytes):
    """A file whose data is a hole: it has a size, and takes no room on the disk."""
    header, data_bytes = safetensors_header(shapes, dtype, element_bytes)
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(len(header) + data_bytes)


def llama_config(hidden=32, layers=2, heads=4, kv_heads=2, vocabulary=64, intermediate=64):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
            "intermediate_size": intermediate, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "vocab_size": vocabulary, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
            "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2}


def llama_shapes(config):
    """{name: shape} of every tensor of the checkpoint."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    kv_size = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden],
              "model.norm.weight": [hidden], "lm_head.weight": [config["vocab_size"], hidden]}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        shapes |= {layer + "input_layernorm.weight": [hidden],
                   layer + "post_attention_layernorm.weight": [hidden],
                   layer + "self_attn.q_proj.weight": [hidden, hidden],
                   layer + "self_attn.k_proj.weight": [kv_size, hidden],
                   layer + "self_attn.v_proj.weight": [kv_size, hidden],
                   layer + "self_attn.o_proj.weight": [hidden, hidden],
                   layer + "mlp.gate_proj.weight": [inner, hidden],
                   layer + "mlp.up_proj.weight": [inner, hidden],
                   layer + "mlp.down_proj.weight": [hidden, inner]}
    return shapes


def llama_tensors(config, seed):
    """{name: (shape, float32 bytes)}; a repeated block of random values, so it is quick to make."""
    random_source = random.Random(seed)

    def values(shape):
        count = math.prod(shape)
        block = [random_source.gauss(0, 0.1) for _ in range(min(count, 4096))]
        data = struct.pack(f"<{len(block)}f", *block)
        return shape, (data * (count // len(block) + 1))[:4 * count]

    return {name: values(shape) for name, shape in llama_shapes(config).items()}


def write_llama(folder, seed, **sizes):
    """Makes the folder and returns it."""
    folder.mkdir(parents=True)
    config = llama_config(**sizes)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", llama_tensors(config, seed))
    return folder
