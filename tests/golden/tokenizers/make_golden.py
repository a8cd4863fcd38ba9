#!/usr/bin/env python3
"""Trains small tokenizers on the text below and writes what the reference libraries make of it.

Needs tokenizers 0.22, sentencepiece 0.2 and transformers 4.57; the C++ tests read only the files
written here. Run it in this folder: it replaces corpus.json and one folder for each tokenizer.

Per tokenizer, golden.json holds
  ids            ids of every text of corpus.json, without added special tokens
  framed         ids of FRAMED_TEXT with them
  random_ids     one hash per RANDOM_PER_HASH texts of random_text(0), random_text(1), ...
  random_texts   one hash per RANDOM_PER_HASH decoded lists of random_ids(0), ..., with special tokens
                 left out; the lists draw from first_id on
  size           one more than the highest id
Special tokens spelled in a text are plain text in all of them.
"""

import json
import os
import shutil
import sys
import tempfile

import sentencepiece
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)
from transformers import LlamaTokenizerFast

from golden_text import CORPUS, TRAINING_TEXT

NUM_RANDOM_TEXTS = 10000
NUM_RANDOM_IDS = 1000
RANDOM_PER_HASH = 10
FRAMED_TEXT = "Hello, 世界!"
MASK = (1 << 64) - 1


class SplitMix64:
    """Steele et al. 2014; the C++ test has the same."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % limit


# (first character, number of characters), each row as likely as any other.
RANDOM_RANGES = [
    (0x61, 26), (0x61, 26), (0x61, 26), (0x61, 26), (0x20, 1), (0x20, 1), (0x00, 0x80), (0x20, 16),
    (0x30, 10), (0x41, 26), (0xA0, 0x1B0), (0x300, 0x70), (0x400, 0x100), (0x600, 0x800),
    (0xE00, 0x1200), (0x2000, 0xC00), (0x3000, 0x7000), (0xAC00, 0x2BA4), (0x10000, 0x10000),
    (0x0A, 4)]


def random_text(index):
    rng = SplitMix64(index)
    text = ""
    for _ in range(rng.below(48)):
        first, count = RANDOM_RANGES[rng.below(len(RANDOM_RANGES))]
        text += chr(first + rng.below(count))
    return text


def random_ids(index, first_id, size):
    rng = SplitMix64(1_000_000 + index)
    return [first_id + rng.below(size - first_id) for _ in range(rng.below(24))]


def fnv1a(chunks):
    value = 0xCBF29CE484222325
    for chunk in chunks:
        for byte in chunk:
            value = ((value ^ byte) * 0x100000001B3) & MASK
    return f"{value:016x}"


def hash_blocks(chunks):
    return [fnv1a(chunks[i:i + RANDOM_PER_HASH]) for i in range(0, len(chunks), RANDOM_PER_HASH)]


def id_chunk(ids):
    return b"".join(i.to_bytes(4, "little") for i in ids) + b"\xff\xff\xff\xff"


def text_chunk(text):
    return text.encode() + b"\xff"


def write_golden(name, encode, framed, decode, size, first_id):
    random = [id_chunk(encode(random_text(i))) for i in range(NUM_RANDOM_TEXTS)]
    texts = [text_chunk(decode(random_ids(i, first_id, size))) for i in range(NUM_RANDOM_IDS)]
    golden = {
        "size": size, "first_id": first_id, "framed": framed,
        "random_ids": hash_blocks(random), "random_texts": hash_blocks(texts),
        "ids": [encode(text) for text in CORPUS],
    }
    with open(os.path.join(name, "golden.json"), "w", encoding="utf-8") as file:
        json.dump(golden, file, separators=(",", ":"))
        file.write("\n")
    print(name, size, "tokens,", sum(len(ids) for ids in golden["ids"]), "ids")


# ---------------------------------------------------------------- tokenizer.json

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(prefix=False, regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)


def split(pattern, behavior="isolated"):
    return pre_tokenizers.Split(Regex(pattern), behavior=behavior, invert=False)


def frame(tokenizer, begin=None, end=None):
    single = ([begin] if begin else []) + ["$A"] + ([end] if end else [])
    tokens = [(t, tokenizer.token_to_id(t)) for t in (begin, end) if t]
    return processors.TemplateProcessing(single=" ".join(single), pair=None, special_tokens=tokens)


def train_json(name, pre_tokenizer, special, normalizer=None, ignore_merges=False, added=(),
               make_post_processor=None, special_first=True, vocabulary=1200):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(
        TRAINING_TEXT, trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=special if special_first else [],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in special])
    tokenizer.add_tokens(list(added))
    tokenizer.post_processor = (make_post_processor(tokenizer) if make_post_processor
                                else processors.ByteLevel(trim_offsets=False))
    os.makedirs(name)
    tokenizer.save(os.path.join(name, "tokenizer.json"), pretty=False)
    write_json_golden(name)


def write_json_golden(name, first_id=0):
    tokenizer = Tokenizer.from_file(os.path.join(name, "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    write_golden(
        name, lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        tokenizer.encode(FRAMED_TEXT).ids, tokenizer.decode, tokenizer.get_vocab_size(), first_id)


def make_json_tokenizers():
    train_json("bloom", pre_tokenizers.Sequence([split(BLOOM), byte_level()]),
               ["<unk>", "<s>", "</s>", "<pad>"])
    train_json("gpt2", byte_level(regex=True), ["<|endoftext|>"])
    train_json("starcoder", pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), byte_level(prefix=True, regex=True)]),
        ["<|endoftext|>", "<fim_prefix>"],
        make_post_processor=lambda t: frame(t, end="<|endoftext|>"))
    train_json("llama3", pre_tokenizers.Sequence([split(LLAMA3), byte_level()]),
               ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], ignore_merges=True,
               special_first=False, make_post_processor=lambda t: processors.Sequence(
                   [processors.ByteLevel(trim_offsets=False), frame(t, "<|begin_of_text|>")]))
    train_json("qwen2", pre_tokenizers.Sequence([split(QWEN2), byte_level()]),
               ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizer=normalizers.NFC(),
               special_first=False, added=[
                   AddedToken("<tool_call>", normalized=False),
                   AddedToken("</tool_call>", normalized=False),
                   AddedToken("<tool", normalized=False, lstrip=True, rstrip=True),
                   AddedToken("tür", normalized=True, single_word=True),
                   AddedToken("<|im_", normalized=False)])
    train_json("tekken", pre_tokenizers.Sequence(
        [split(TEKKEN), pre_tokenizers.Digits(), byte_level()]), ["<s>", "</s>", "[INST]"],
        normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("``", '"')]))
    train_json("behaviors", pre_tokenizers.Sequence(
        [split("[.,;]", "merged_with_previous"), split("[(\\[{]+", "merged_with_next"),
         split("=", "contiguous"), split("~", "removed"), byte_level()]), ["<s>"], vocabulary=600,
        normalizer=normalizers.NFD())


# ---------------------------------------------------------------- tokenizer.model

def train_model(name, **options):
    os.makedirs(name)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as text:
        text.write("\n".join(line for line in "\n".join(TRAINING_TEXT).split("\n") if line))
        text.flush()
        sentencepiece.SentencePieceTrainer.train(
            input=text.name, model_prefix=os.path.join(name, "tokenizer"), minloglevel=2,
            hard_vocab_limit=False, num_threads=1, **options)
    os.remove(os.path.join(name, "tokenizer.vocab"))
    strip_trainer_paths(os.path.join(name, "tokenizer.model"))


def strip_trainer_paths(path):
    """Takes the names of temporary files out of the trainer's record."""
    from sentencepiece import sentencepiece_model_pb2
    model = sentencepiece_model_pb2.ModelProto()
    with open(path, "rb") as file:
        model.ParseFromString(file.read())
    del model.trainer_spec.input[:]
    model.trainer_spec.model_prefix = "tokenizer"
    with open(path, "wb") as file:
        file.write(model.SerializeToString(deterministic=True))


def write_model_golden(name, config):
    with open(os.path.join(name, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
        file.write("\n")
    model = sentencepiece.SentencePieceProcessor(os.path.join(name, "tokenizer.model"))

    def decode(ids):
        return model.decode([i for i in ids if not model.is_control(i) and not model.is_unknown(i)])

    framed = model.encode(FRAMED_TEXT, add_bos=config.get("add_bos_token", True),
                          add_eos=config.get("add_eos_token", False))
    write_golden(name, model.encode, framed, decode, model.get_piece_size(), 0)


def make_model_tokenizers():
    train_model("sp_bpe", model_type="bpe", vocab_size=1300, byte_fallback=True,
                normalization_rule_name="identity", remove_extra_whitespaces=False,
                split_digits=True, allow_whitespace_only_pieces=True, character_coverage=0.995,
                user_defined_symbols=["<tool>", "▁▁▁▁", "的确"])
    write_model_golden("sp_bpe", {"add_bos_token": True, "add_eos_token": False})
    train_model("sp_unigram", model_type="unigram", vocab_size=1200, character_coverage=0.99,
                control_symbols=["<pad>", "<sep>"])
    write_model_golden("sp_unigram", {"add_bos_token": False, "add_eos_token": True})
    train_model("sp_unigram_bytes", model_type="unigram", vocab_size=1400, byte_fallback=True,
                normalization_rule_name="identity", add_dummy_prefix=False, character_coverage=0.99,
                remove_extra_whitespaces=False, user_defined_symbols=["<|im_start|>"])
    write_model_golden("sp_unigram_bytes", {})


def make_converted_tokenizers():
    """LLaMA 2's kind of tokenizer.json, made from sp_bpe as Transformers makes it."""
    for name, legacy in (("llama2_legacy", True), ("llama2", False)):
        fast = LlamaTokenizerFast(vocab_file="sp_bpe/tokenizer.model", legacy=legacy,
                                  from_slow=True)
        os.makedirs(name)
        fast.backend_tokenizer.save(os.path.join(name, "tokenizer.json"), pretty=False)
        num_byte_ids = 3 + 3 + 256  # special, user-defined, bytes: see TextDecoder in the C++ code
        write_json_golden(name, first_id=num_byte_ids)


def main():
    os.chdir(os.path.dirname(os.path.abspath(sys.argv[0])))
    for entry in os.scandir("."):
        if entry.is_dir() and entry.name != "__pycache__":
            shutil.rmtree(entry.path)
    with open("corpus.json", "w", encoding="utf-8") as file:
        json.dump(CORPUS, file, ensure_ascii=True, indent=0)
        file.write("\n")
    make_json_tokenizers()
    make_model_tokenizers()
    make_converted_tokenizers()


if __name__ == "__main__":
    main()
