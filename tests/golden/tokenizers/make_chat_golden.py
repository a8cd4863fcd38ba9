#!/usr/bin/env python3
"""Writes chat_ids.json: ids of rendered chats as Transformers' apply_chat_template gives them.

Every text of "texts" (the prompts of ../chat/expected.json in some styles, and spellings of special
tokens in odd places) is tokenized with add_special_tokens=False, special tokens in it parsed.
Needs transformers 4.57 and tokenizers 0.22. The golden tokenizers and the embedded models stay as
they are:

    python tests/golden/tokenizers/make_chat_golden.py
"""

import json
import pathlib

from tokenizers import Tokenizer
from transformers import AutoTokenizer, LlamaTokenizer

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parents[2] / "models"
STYLES = ("chatml", "llama2", "llama3", "mistral")
MARKS = ("<s>", "</s>", "<unk>", "<pad>", "<|im_start|>", "<|im_end|>", "<|endoftext|>",
         "<|begin_of_text|>", "<|eot_id|>", "[INST]", "<fim_prefix>")
SHAPES = ("{0}", "a{0}b", " {0} ", "a {0} b", "{0}{0}", "{0}\n\n{1}", "x{0}  y {1}z", "  {0}",
          "{0}a", "{0} a", "a{0}", "{1}{0}user\nHi{1}", "<{0}>", "{0}é{1}ü 世界{0}", "tür {0}tür",
          "{0}<tool_call>{1}", "the{0}the {1} the", "{0}▁{1}▁▁ a")
JSON_TOKENIZERS = ("bloom", "gpt2", "starcoder", "llama3", "qwen2", "tekken", "behaviors",
                   "llama2", "llama2_legacy")


def texts() -> list[str]:
    expected = json.loads((HERE.parent / "chat" / "expected.json").read_text(encoding="utf-8"))
    found = [text for style in STYLES for text in expected["templates"][style].values() if text]
    for index, mark in enumerate(MARKS):
        other = MARKS[(index + 1) % len(MARKS)]
        found += [shape.format(mark, other) for shape in SHAPES]
    return list(dict.fromkeys(found))


def main() -> None:
    all_texts = texts()
    ids = {}
    for name in JSON_TOKENIZERS:
        tokenizer = Tokenizer.from_file(str(HERE / name / "tokenizer.json"))
        ids[name] = [tokenizer.encode(t, add_special_tokens=False).ids for t in all_texts]
    # Of a tokenizer.model, Transformers' class that keeps sentencepiece's own ids: the one that
    # AutoTokenizer converts takes one of two spaces away at the very start of a text.
    for name, tokenizer in (
            ("bloom-tiny", AutoTokenizer.from_pretrained(MODELS / "bloom-tiny")),
            ("llama-tiny", LlamaTokenizer.from_pretrained(MODELS / "llama-tiny")),
            ("sp_bpe", LlamaTokenizer(str(HERE / "sp_bpe" / "tokenizer.model"), legacy=True))):
        ids[name] = [tokenizer(t, add_special_tokens=False).input_ids for t in all_texts]
    with open(HERE / "chat_ids.json", "w", encoding="utf-8") as file:
        json.dump({"texts": all_texts, "ids": ids}, file, separators=(",", ":"))
        file.write("\n")
    print(len(all_texts), "texts,", {name: sum(map(len, rows)) for name, rows in ids.items()})


if __name__ == "__main__":
    main()
