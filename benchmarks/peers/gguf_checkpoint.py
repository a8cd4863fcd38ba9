"""Converts a Hugging Face folder of BLOOM or LLaMA into llama.cpp's files; run in its environment.

    gguf_checkpoint.py HF_FOLDER FOLDER [--vocabulary]

Writes bf16.gguf, q8_0.gguf and q4_0.gguf, as llama-quantize makes them. There is no vocabulary in
them: prompts are token ids. With --vocabulary there is a made-up one, for a server that must turn
tokens into text.
"""

import argparse
import json
import pathlib
import re
import sys

import gguf
import llama_cpp
import numpy

NAMES = {
    "bloom": {
        "word_embeddings": "token_embd", "word_embeddings_layernorm": "token_embd_norm",
        "ln_f": "output_norm", "input_layernorm": "attn_norm",
        "self_attention.query_key_value": "attn_qkv", "self_attention.dense": "attn_output",
        "post_attention_layernorm": "ffn_norm", "mlp.dense_h_to_4h": "ffn_up",
        "mlp.dense_4h_to_h": "ffn_down",
    },
    "llama": {
        "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output",
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    },
}
QUANTIZED = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}


def gguf_name(family, name):
    """transformer.h.3.mlp.dense_h_to_4h.weight -> blk.3.ffn_up.weight"""
    layer, module, kind = re.fullmatch(
        r"(?:transformer\.|model\.)?(?:(?:h|layers)\.(\d+)\.)?(.*)\.(weight|bias)", name).groups()
    place = "" if layer is None else f"blk.{layer}."
    return f"{place}{NAMES[family][module]}.{kind}"


def split_heads(values, heads):
    """BLOOM's rows go head by head, each with q, k and v; llama.cpp has all q, all k, all v."""
    parts = values.reshape(heads, 3, -1, *values.shape[1:])
    return numpy.ascontiguousarray(parts.swapaxes(0, 1)).reshape(values.shape)


def interleave_halves(values, heads):
    """llama.cpp rotates neighbours, Hugging Face the halves of a head."""
    parts = values.reshape(heads, 2, -1, *values.shape[1:])
    return numpy.ascontiguousarray(parts.swapaxes(1, 2)).reshape(values.shape)


def rearrange(config, name, values):
    if ".query_key_value." in name:
        return split_heads(values, config["n_head"])
    if ".q_proj." in name:
        return interleave_halves(values, config["num_attention_heads"])
    if ".k_proj." in name:
        return interleave_halves(values, config["num_key_value_heads"])
    return values


def bf16_tensors(path):
    """(name, values as uint16) of a safetensors file of bf16 numbers."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_bytes))
    header.pop("__metadata__", None)
    data = numpy.memmap(path, dtype=numpy.uint8, mode="r", offset=8 + header_bytes)
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        yield name, data[begin:end].view(numpy.uint16).reshape(tensor["shape"])


def add_vocabulary(writer, size):
    """Each token has a text of its own, so that a server sends each in an event of its own."""
    special = ["<unk>", "<s>", "</s>"]
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*special, *(f"t{i}" for i in range(len(special), size))])
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([*types, *[gguf.TokenType.NORMAL] * (size - len(types))])


def add_hyperparameters(writer, config):
    if config["model_type"] == "bloom":
        hidden, layers, heads = config["hidden_size"], config["n_layer"], config["n_head"]
        kv_heads, wide, context = heads, 4 * hidden, config["seq_length"]
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        hidden, layers = config["hidden_size"], config["num_hidden_layers"]
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        wide, context = config["intermediate_size"], config["max_position_embeddings"]
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(config["rope_theta"])
        writer.add_rope_dimension_count(hidden // heads)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_feed_forward_length(wide)
    writer.add_context_length(context)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)


def write_bf16(source, path, has_vocabulary):
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    family = config["model_type"]
    writer = gguf.GGUFWriter(path, family)
    add_hyperparameters(writer, config)
    if has_vocabulary:
        add_vocabulary(writer, config["vocab_size"])
    else:
        writer.add_tokenizer_model("none")
    for name, values in bf16_tensors(source / "model.safetensors"):
        values = rearrange(config, name, values)
        if values.ndim == 1:
            wide = values.astype(numpy.uint32) << 16
            writer.add_tensor(gguf_name(family, name), wide.view(numpy.float32))
        else:
            writer.add_tensor(gguf_name(family, name), values.view(numpy.uint8),
                              raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--vocabulary", action="store_true")
    options = parser.parse_args()
    folder = options.folder
    folder.mkdir()
    write_bf16(options.source, folder / "bf16.gguf", options.vocabulary)
    for name, kind in QUANTIZED.items():
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype = kind
        code = llama_cpp.llama_model_quantize(str(folder / "bf16.gguf").encode(),
                                              str(folder / f"{name}.gguf").encode(), parameters)
        if code != 0:
            sys.exit(f"llama_model_quantize gave {code} for {name}")


if __name__ == "__main__":
    main()
