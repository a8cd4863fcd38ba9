#!/usr/bin/env python3
"""Writes the small files under seeds/ that the fuzz targets start from. Run it in this folder."""

import json
import os
import struct

SAFETENSORS = {
    "empty": ({}, 0),
    "two": ({"__metadata__": {"format": "pt"},
             "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
             "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}}, 32),
    "shapes": ({"scalar": {"dtype": "F64", "shape": [], "data_offsets": [0, 8]},
                "none": {"dtype": "I8", "shape": [0, 7], "data_offsets": [8, 8]},
                "deep": {"dtype": "U8", "shape": [1, 1, 1, 1, 1, 1, 1, 2], "data_offsets": [8, 10]},
                "w.scale": {"dtype": "BOOL", "shape": [2, 1], "data_offsets": [10, 12]}}, 12),
}

MANIFEST = {
    "format": "sluice-package", "format_version": 1, "family": "llama", "dtype": "bf16",
    "vocabulary_size": 16, "context_length": 8, "num_layers": 1, "num_heads": 1,
    "num_kv_heads": 1, "head_size": 4, "num_parameters": 100, "end_token_ids": [2],
    "aliases": {"output": "embedding"},
    "files": {"program.pt": {"bytes": 3, "sha256": ["0" * 64]},
              "weights/a.safetensors": {"bytes": 0, "sha256": ["f" * 64]}}}

CHAT = {
    "loop": "{% for m in messages %}{{ loop.index0 ~ m['role'] | upper }}{% if not loop.last %}, "
            "{% endif %}{% else %}none{% endfor %}",
    "macro": "{%- macro f(x, y=2) -%}{{ x * y }}{%- endmacro %}{{ f(3) }}{{ f('a', y=4) }}"
             "{% call f(1) %}b{% endcall %}",
    "slices": "{% set ns = namespace(n=0) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + 1 %}"
              "{% endfor %}{{ messages[1:-1] | length + ns.n }}{{ 'abc'[-2:] }}",
    "filters": "{{ messages | map(attribute='role') | join('-') }}{{ tools | tojson(indent=2) }}"
               "{{ messages | selectattr('content', 'string') | list | length }}"
               "{{ {'a': [1, 2.5, none]} | items | list }}{{ ' x ' | trim | default('y', true) }}",
    "raise": "{% if messages[0].role == 'system' and 'f' in tools[0].function.name %}"
             "{{ raise_exception('no ' + messages[0]['content'] | string) }}{% endif %}",
    "with": "{% with a = 1, b = a is defined %}{{ a // 2 ** 3 % 4 - -1 }}{{ b and not a }}"
            "{% endwith %}{% filter upper %}x{% endfilter %}{# gone #}{{ strftime_now('%d %b %Y') }}",
    "methods": "{{ 'a,b'.split(',')[0].strip() ~ 'x'.replace('x', 'y').title() }}"
               "{{ message.get('k', 'v') if message is mapping else 'a%s' }}"
               "{% generation %}{{ range(1, 10, 3) | list }}{% endgeneration %}",
}


def byte_characters():
    """GPT-2's bytes_to_unicode."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def byte_level(pre_tokenizer, **rest):
    vocab = {c: i for i, c in enumerate(byte_characters())}
    for token in ("he", "ll", "hell", "Ġd", "on"):
        vocab[token] = len(vocab)
    return {"version": "1.0", "added_tokens": [
                {"id": len(vocab), "content": "<s>", "special": True, "normalized": False},
                {"id": len(vocab) + 1, "content": "<tool_call>", "lstrip": True, "rstrip": True}],
            "normalizer": None, "pre_tokenizer": pre_tokenizer, "post_processor": None,
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": vocab,
                      "merges": ["h e", "l l", ["he", "ll"], "Ġ d", "o n"]}} | rest


def split(pattern, behavior="Isolated"):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}


def tokenizers():
    stage = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    yield "gpt2", byte_level(stage | {"use_regex": True, "add_prefix_space": True})
    yield "stages", byte_level(
        {"type": "Sequence", "pretokenizers": [
            split({"Regex": r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"}),
            split({"String": "="}, "MergedWithNext"),
            {"type": "Digits", "individual_digits": True}, stage]},
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "NFKC"}, {"type": "Replace", "pattern": {"String": "``"}, "content": "\""}]},
        post_processor={"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [261], "tokens": ["<s>"]}}})
    vocab = {token: i for i, token in enumerate(
        ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "a", "b", "▁a", "ab"])}
    yield "metaspace", {
        "normalizer": None, "added_tokens": [{"id": 0, "content": "<unk>", "special": True}],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first",
                          "split": False},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True,
                  "vocab": vocab, "merges": ["▁ a", "a b"]}}


def write(target, name, content):
    os.makedirs(os.path.join("seeds", target), exist_ok=True)
    with open(os.path.join("seeds", target, name), "wb") as file:
        file.write(content)


def main():
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    for name, (header, num_bytes) in SAFETENSORS.items():
        text = json.dumps(header).encode()
        write("safetensors", name, struct.pack("<Q", len(text)) + text + bytes(num_bytes))
    write("manifest", "small", json.dumps(MANIFEST, indent=2).encode())
    for name, text in CHAT.items():
        write("chat_template", name, text.encode())
    for name, file in tokenizers():
        write("tokenizer_json", name, json.dumps(file, ensure_ascii=False).encode())


if __name__ == "__main__":
    main()
