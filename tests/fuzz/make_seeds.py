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


JSON = {
    "scalars": '[null, true, false, 0, -0, -1, 1.5, -0.0, 1e-400, 2E+3, 18446744073709551615, '
               '-9223372036854775808, 123456789012345678901234567890]',
    "strings": '["", "a\\"b\\\\c", "\\u0000\\u001f\\/", "\\ud83e\\udd96", "é世", "}{][,:"]',
    "members": ' {"b" : [1, {"a": "}"}], "a":{"b": "\\\\"} ,"": null,\t"c" :-1.5e3\n, "d":"x" } ',
    "escaped_keys": '{"\\u0061": 1, "a\\"": 2, "\\\\": {"\\u0061": []}}',
    "deep": "[" * 63 + "{}" + "]" * 63,
    "mark": '\ufeff{"a": 1}',
    "twice": '{"a": 1, "a": 2}',
    "text": '"plain"',
    "number": "-12.5e-3 ",
    "long": '{"k": "' + "0123456789abcdef" * 20 + '", "l": [' + "1, " * 60 + "2]}",
}

CONFIG_FILES = {
    "llama": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000,
              "num_hidden_layers": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
              "eos_token_id": 2, "rope_scaling": None},
    "scaled": {"model_type": "llama", "rms_norm_eps": 1, "eos_token_id": [128001, 128009],
               "vocab_size": 16777216,
               "rope_scaling": {"factor": 8.0, "rope_type": "llama3", "deep": {"x": None}}},
    "wrong_types": {"vocab_size": "many", "num_hidden_layers": -1, "rms_norm_eps": True,
                    "eos_token_id": [-1, "x"], "architectures": ["a", 1], "model_type": 5},
    "tokenizer": {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True,
                  "add_eos_token": False, "legacy": None, "bos_token": "<s>",
                  "eos_token": {"content": "</s>", "lstrip": False},
                  "added_tokens_decoder": {
                      "0": {"content": "<unk>", "special": True, "normalized": False},
                      "32000": {"content": "<pad>", "special": True, "lstrip": True,
                                "rstrip": True, "single_word": True}}},
    "tokenizer_wrong": {"add_prefix_space": 1, "bos_token": ["x"],
                        "added_tokens_decoder": {"1x": {}, "2": {"content": 3}}},
}

OPENAI = {
    "completion": {"model": "m", "prompt": "PRIVATE text", "max_tokens": 5, "temperature": 0.5,
                   "top_p": 0.9, "n": 2, "seed": 7, "stop": ["PRIVATE", "b"], "stream": True,
                   "stream_options": {"include_usage": True}, "user": "PRIVATE"},
    "prompts": {"prompt": ["PRIVATE", "b", "c"], "echo": True, "logprobs": 3, "min_tokens": 1},
    "ids": {"prompt": [[1, 2, 3], [256]], "logit_bias": {"5": -100, "7": 2.5},
            "stop_token_ids": [0, 256], "ignore_eos": True, "return_token_ids": True},
    "one_prompt_of_ids": {"prompt": [1, 2, 3], "top_k": 5, "min_p": 0.1, "max_tokens": 900,
                          "repetition_penalty": 1.1, "presence_penalty": -2,
                          "frequency_penalty": 2, "ttft_ms": 100, "total_ms": 86400000},
    "fixed": {"prompt": "a", "best_of": 1, "suffix": "", "response_format": {"type": "text"},
              "service_tier": "auto", "use_beam_search": False, "length_penalty": 1,
              "metadata": None},
    "chat": {"messages": [{"role": "system", "content": "PRIVATE </s>"},
                          {"role": "user", "content": "PRIVATE <b> \u00e9"}],
             "max_completion_tokens": 8, "logprobs": True, "top_logprobs": 2, "temperature": 0},
    "chat_plain": {"messages": [
                       {"role": "user", "content": [{"type": "text", "text": "PRIVATE</s></s"}]},
                       {"role": "</s>", "content": None, "tool_calls": [{"</s>": "</s>"}]},
                       {"role": "tool", "content": "4", "tool_call_id": "c1"}],
                   "tools": [{"type": "function", "function": {"name": "</s>", "z": 1, "a": 2}}],
                   "parse_special_tokens": False,
                   "chat_template_kwargs": {"extra": ["</s>", {"</s>": None}], "x": 1}},
    "chat_open": {"messages": [{"role": "user", "content": "a"},
                               {"role": "assistant", "content": "PRIVATE"}],
                  "continue_final_message": True, "add_generation_prompt": False,
                  "tool_choice": "none", "tools": []},
    "chat_nulls": {"messages": [{"role": "user", "content": "a"}], "max_tokens": None,
                   "tools": None, "chat_template_kwargs": None, "stop": None, "seed": None},
    "wrong": {"prompt": {"a": 1}, "temperature": "PRIVATE"},
    "unknown": {"prompt": "a", "PRIVATE\u001b\u00e9" + "x" * 70: 1},
}

# Protobuf's text format.
GRPC = {
    "text": """model: "m" request_id: "r" prompt: "PRIVATE" max_tokens: 5 min_tokens: 1 n: 2
temperature: 0.5 top_p: 0.9 top_k: -1 min_p: 0 seed: 18446744073709551615 echo: true
stop: "PRIVATE" stop_token_ids: [1, 256] logprobs: 0 prompt_logprobs: 2 ttft_ms: 5 total_ms: 50
""",
    "ids": """token_ids: [1, 2, 3] logit_bias { token_id: 1 bias: -inf } repetition_penalty: 1.1
logit_bias { token_id: 2 bias: 0.5 } ignore_eos: true skip_special_tokens: false
presence_penalty: -1 frequency_penalty: 2
""",
    "limits": """prompt: "a" ttft_ms: 9223372036854775807 total_ms: -9223372036854775808
temperature: nan top_p: 1e-300 max_tokens: -1
""",
    "chat": r"""chat {
  messages { role: "user" content: "PRIVATE </s> \" } ] \\ \303\251 \000" name: "{" }
  messages { role: "assistant" tool_calls_json: "[{\"a\": {\"b\": \"}\"}}]" }
  messages { role: "tool" content: "" tool_call_id: "[" }
  tools_json: "[{\"type\": \"function\"}]" add_generation_prompt: false
}
""",
    "chat_marked": r"""chat {
  messages { role: "assistant" content: "a" tool_calls_json: "\357\273\277 [{}] " }
}
""",
    "chat_json": r"""chat {
  messages_json: "[{\"role\": \"user\", \"content\": \"PRIVATE</s>\"}]"
  template_kwargs_json: "{\"extra\": \"</s>\"}" parse_special_tokens: false
  continue_final_message: false
}
""",
    "chat_both": """chat { messages { role: "user" content: "a" } messages_json: "[]" }
""",
    "kserve": """model_name: "m" model_version: "1" id: "r"
inputs { name: "text_input" datatype: "BYTES" shape: [1, 1] contents { bytes_contents: "PRIVATE" } }
inputs { name: "max_tokens" datatype: "INT32" shape: 1 contents { int_contents: 5 } }
inputs { name: "temperature" datatype: "FP32" shape: 1 contents { fp32_contents: 0.5 } }
inputs { name: "stop_words" datatype: "BYTES" shape: 2 contents { bytes_contents: "PRIVATE"
  bytes_contents: "" } }
inputs { name: "stream" datatype: "BOOL" shape: 1 contents { bool_contents: true } }
parameters { key: "num_return_sequences" value { int64_param: 2 } }
parameters { key: "seed" value { string_param: "7" } }
outputs { name: "text_output" } outputs { name: "output_ids" } outputs { name: "cum_log_probs" }
""",
    "kserve_raw": r"""model_name: "m"
inputs { name: "input_ids" datatype: "INT32" shape: [1, 3] }
inputs { name: "exclude_input_in_output" datatype: "BOOL" shape: 1 }
inputs { name: "bad_words" datatype: "BYTES" shape: 1 }
raw_input_contents: "\001\000\000\000\002\000\000\000\003\000\000\000"
raw_input_contents: "\000"
raw_input_contents: "\000\000\000\000"
parameters { key: "max_tokens" value { uint64_param: 4 } }
""",
    "kserve_json": r"""inputs { name: "text_input" datatype: "BYTES" shape: 1
  contents { bytes_contents: "PRIVATE" } }
inputs { name: "sampling_parameters" datatype: "BYTES" shape: 1 contents { bytes_contents:
  "{\"top_k\": 3, \"stop\": [\"PRIVATE\"], \"logit_bias\": {\"5\": -1}, \"n\": null}" } }
parameters { key: "return_logprobs" value { bool_param: true } }
parameters { key: "return_num_input_tokens" value { bool_param: true } }
parameters { key: "timeout" value { int64_param: 1000 } }
parameters { key: "beam_width" value { double_param: 1 } }
""",
    "kserve_wide": """inputs { name: "input_ids" datatype: "INT64" shape: 2
  contents { int64_contents: [1, -9223372036854775808] } }
inputs { name: "random_seed" datatype: "UINT64" shape: 1 contents { uint64_contents: 7 } }
inputs { name: "n" datatype: "UINT32" shape: 1 contents { uint_contents: 1 } }
inputs { name: "top_p" datatype: "FP64" shape: 1 contents { fp64_contents: 0.5 } }
inputs { name: "end_id" datatype: "INT8" shape: 1 contents { int_contents: 300 } }
""",
    "kserve_unknown": r"""inputs { name: "PRIVATE\033" datatype: "BYTES" shape: 1 }
parameters { key: "PRIVATE" value { } }
""",
}

KEY = "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"  # SHA-256 of "k"
TRACE = "0123456789abcdef" * 2
EVENTS = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
          b"Transfer-Encoding: chunked\r\n\r\n"
          b'f\r\ndata: {"a": 1}\n\r\n1\r\n\n\r\n13\r\n: note\n\ndata: [DONE]\r\n2;x=1\r\n\n\n\r\n'
          b"0\r\n\r\n")

# The first byte names the reader.
TEXT_FORMATS = {
    "keys": f"k# two clients\n{KEY} PRIVATE requests_per_minute=60\n\n{'a' * 64}\tbob "
            f"tokens_per_minute=1000000000000 concurrent_requests=2\r\n{'B' * 64} bob "
            "concurrent_requests=2 tokens_per_minute=1000000000000",
    "keys_wrong": f"k{KEY.upper()} PRIVATE\n{'c' * 64} PRIVATE requests_per_minute=0\n",
    "trace": f"t00-{TRACE}-00f067aa0ba902b7-01",
    "trace_later": f"tcc-{TRACE}-00f067aa0ba902b7-01-more",
    "header": "hreq 1%\r\nX: \u00e9",
    "address": "a127.0.0.1:50051",
    "address_six": "a[::1]:0",
    "events": b"e" + EVENTS,
    "events_counted": b"eHTTP/1.1 429 Too Many Requests\r\ncontent-length: 14\r\n\r\n"
                      b'{"error": "x"}rest',
    "events_continued": b"eHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
                        b"content-type:  text/event-stream; charset=utf-8\r\n\r\ndata:1\n\ndata: 2",
    "line": 'l{"prompt": "PRIVATE", "max_tokens": 5, "temperature": 0.5, "seed": 7, '
            '"stop": ["PRIVATE"], "logit_bias": [{"token_id": 1, "bias": -0.5}], "top_k": null}',
    "line_chat": 'l{"messages": [{"role": "user", "content": "PRIVATE"}], "tools": [], '
                 '"chat_template_kwargs": {"a": 1}, "add_generation_prompt": true, "ttft_ms": 5}',
    "line_misspelled": 'l{"token_ids": [1, 2], "max_token": 5}',
    "output": 'o{"index": 0, "text": "a"}\n{"index": 2, "completion": 0}\n'
              '{"index": 2, "completion": 1}\n{"index": 3, "error": "x"}\n{"index": 4',
    "number": "v+18446744073709551615",
    "zero": "v-0",
    "list": "v1, -2,3",
    "bias": "v5=-1.5,7=inf",
    "duration": "v1.5h",
    "size": "v512KiB",
    "target": "u/v1/models%2Fa?x=1%2",
    "target_absolute": "uhttp://host:80/v1/chat?y",
}


def varint(value):
    data = b""
    while value >= 0x80:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def field(number, value):
    """One field of a protobuf message: a number, a float or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def piece(text, score=0.0, kind=1):
    return field(1, field(1, text.encode()) + field(2, score) + (field(3, kind) if kind > 1 else b""))


def character_map(strings):
    """A double array whose root leads nowhere but at 'A', to the first of `strings`."""
    units = [0] * 512
    units[0] = 256 << 10  # children of the root at 256 ^ byte
    units[256 ^ ord("A")] = ord("A") | 1 << 8 | (256 ^ ord("A")) << 10  # its leaf at 0
    table = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(table)) + table + strings


def sentencepieces():
    control = piece("<unk>", kind=2) + piece("<s>", kind=3) + piece("</s>", kind=3)
    words = [("\u2581", -2.0), ("a", -3.0), ("b", -3.5), ("\u2581a", -1.5), ("ab", -1.0),
             ("Hel", -4.0), ("lo", -4.5), ("l", -5.0), ("o", -5.5), ("\u4e16", -6.0)]
    pieces = b"".join(piece(text, score) for text, score in words)
    bytes_pieces = b"".join(piece(f"<0x{b:02X}>", kind=6) for b in range(256))
    bpe, unigram = field(2, field(3, 2)), field(2, field(3, 1))
    yield "unigram", control + pieces + unigram
    yield "bpe", control + pieces + bpe
    yield "bytes", control + bytes_pieces + pieces + field(2, field(3, 2) + field(35, 1))
    yield "kinds", (control + pieces + piece("<sep>", kind=4) + piece("loo", -0.5, kind=5) +
                    piece("\u2581\u2581", -2.5) + bpe + field(3, field(3, 0) + field(4, 0)))
    yield "map", control + pieces + unigram + field(3, field(1, b"x") +
                                                    field(2, character_map(b"b\0")))
    yield "names", (piece("<unk>", kind=2) + piece("[B]", kind=3) + piece("[E]", kind=3) + pieces +
                    field(2, field(3, 1) + field(46, b"[B]") + field(47, b"[E]")))


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
    for name, text in JSON.items():
        write("json", name, text.encode())
    for name, config in CONFIG_FILES.items():
        write("config_files", name, json.dumps(config, indent=2).encode())
    for name, body in OPENAI.items():
        write("openai_request", name, json.dumps(body, ensure_ascii=False).encode())
    for name, text in GRPC.items():
        write("grpc_request", name, text.encode())
    for name, model in sentencepieces():
        write("sentencepiece", name, model)
    for name, text in TEXT_FORMATS.items():
        write("text_formats", name, text if isinstance(text, bytes) else text.encode())


if __name__ == "__main__":
    main()
