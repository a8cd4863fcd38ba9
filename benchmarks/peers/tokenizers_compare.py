#!/usr/bin/env python3
"""Sluice's tokenizers beside the reference libraries', in turns, on one thread.

    tokenizers_compare.py --text english=FILE --text code=FILE ... [--bench build/bin/tokenizer_bench]

Trains one tokenizer of each kind on the first halves of the texts (once; kept in --work), then
encodes and decodes the second halves: --pairs pairs of runs, each a process of its own that measures
its CPU time. Prints a table for benchmarks/README.md: medians of both sides in MB/s, and the median
of the pairs' ratios. Ends with 1 if a ratio is below --goal.

Needs tokenizers, sentencepiece and transformers.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

# Metaspace comes after the SentencePiece model that it is made from.
KINDS = {"bloom": "byte-level BPE, BLOOM's expression",
         "llama3": "byte-level BPE, LLaMA 3's expression",
         "sp_bpe": "SentencePiece BPE",
         "sp_unigram": "SentencePiece unigram",
         "metaspace": "Metaspace BPE, as LLaMA 2's"}
MEASURES = ("encode/whole", "encode/paragraphs", "decode")
EXPRESSIONS = {
    "bloom": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
              r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"}


def train_byte_level(folder, expression, text, vocabulary):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(expression), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        text.split("\n\n"), trainers.BpeTrainer(
            vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False))
    tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)


def train_model(folder, kind, text, vocabulary):
    import sentencepiece
    lines = os.path.join(folder, "lines.txt")
    with open(lines, "w", encoding="utf-8") as file:
        file.write("\n".join(line for line in text.split("\n") if line))
    # LLaMA's settings for BPE; the library's own normalization for unigram.
    options = {"model_type": "unigram"} if kind == "sp_unigram" else {
        "model_type": "bpe", "normalization_rule_name": "identity", "split_digits": True,
        "remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True}
    sentencepiece.SentencePieceTrainer.train(
        input=lines, model_prefix=os.path.join(folder, "tokenizer"), vocab_size=vocabulary,
        byte_fallback=True, hard_vocab_limit=False, max_sentence_length=100000, minloglevel=2,
        **options)
    os.remove(lines)


def train(work, text, vocabulary):
    for kind in KINDS:
        folder = os.path.join(work, kind)
        if os.path.isdir(folder):
            continue
        new = folder + ".new"
        shutil.rmtree(new, ignore_errors=True)
        os.makedirs(new)
        if kind in EXPRESSIONS:
            train_byte_level(new, EXPRESSIONS[kind], text, vocabulary)
        elif kind == "metaspace":
            from transformers import LlamaTokenizerFast
            model = os.path.join(work, "sp_bpe", "tokenizer.model")
            fast = LlamaTokenizerFast(vocab_file=model, legacy=False, from_slow=True)
            fast.backend_tokenizer.save(os.path.join(new, "tokenizer.json"), pretty=False)
        else:
            train_model(new, kind, text, vocabulary)
        os.rename(new, folder)


def rate(num_bytes, call):
    """MB/s of CPU time, over half a second or more."""
    call()
    num_calls = 0
    begin = time.process_time()
    while time.process_time() - begin < 0.5:
        call()
        num_calls += 1
    return num_bytes * num_calls / (time.process_time() - begin) / 1e6


def measure_peer(folder, text_file):
    with open(text_file, encoding="utf-8", newline="") as file:
        text = file.read()
    json_file = os.path.join(folder, "tokenizer.json")
    if os.path.exists(json_file):
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(json_file)
        tokenizer.encode_special_tokens = True

        def encode(part):  # without offsets: the library's fastest way
            return tokenizer.encode_batch_fast([part], add_special_tokens=False)[0].ids

        def decode(ids):
            return tokenizer.decode(ids)
    else:
        import sentencepiece
        model = sentencepiece.SentencePieceProcessor(os.path.join(folder, "tokenizer.model"))
        encode, decode = model.encode, model.decode
    parts = [part for part in text.split("\n\n") if part]
    ids = encode(text)
    num_bytes = len(text.encode())
    return {"encode/whole": rate(num_bytes, lambda: encode(text)),
            "encode/paragraphs": rate(sum(len(part.encode()) for part in parts),
                                      lambda: [encode(part) for part in parts]),
            "decode": rate(num_bytes, lambda: decode(ids))}


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def measure_sluice(bench, folder, text_file):
    report = run([bench, folder, text_file, "--benchmark_format=json",
                  "--benchmark_min_time=0.5", "--benchmark_filter=^(encode/|decode)"])
    return {entry["name"]: entry["bytes_per_second"] / 1e6 for entry in report["benchmarks"]}


def compare(args, kind, text_file):
    """Measure to (ours, theirs, ratio), medians."""
    folder = os.path.join(args.work, kind)
    pairs = []
    for _ in range(args.pairs):
        ours = measure_sluice(args.bench, folder, text_file)
        theirs = run([sys.executable, __file__, "--peer", folder, text_file])
        pairs.append((ours, theirs))
    return {name: tuple(statistics.median(values) for values in zip(
        *((ours[name], theirs[name], ours[name] / theirs[name]) for ours, theirs in pairs)))
            for name in MEASURES}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--bench", default="build/bin/tokenizer_bench")
    parser.add_argument("--work", default="build/peers/tokenizers")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--goal", type=float, default=1.0)
    parser.add_argument("--peer", nargs=2, metavar=("FOLDER", "TEXT_FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        print(json.dumps(measure_peer(*args.peer)))
        return
    if not args.text:
        parser.error("--text is missing")
    os.makedirs(args.work, exist_ok=True)
    first, second = "", {}
    for name, path in (text.split("=", 1) for text in args.text):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        first += text[:len(text) // 2] + "\n\n"
        second[name] = os.path.join(args.work, name + ".txt")
        with open(second[name], "w", encoding="utf-8") as file:
            file.write(text[len(text) // 2:])
    train(args.work, first, args.vocabulary)
    worst = float("inf")
    print("| tokenizer | text | measure | Sluice, MB/s | reference, MB/s | ratio |")
    print("|---|---|---|---|---|---|")
    for kind in args.kinds.split(","):
        for name, path in second.items():
            for measure, (ours, theirs, ratio) in compare(args, kind, path).items():
                print(f"| {KINDS[kind]} | {name} | {measure} | {ours:.1f} | {theirs:.1f} | "
                      f"{ratio:.2f} |", flush=True)
                worst = min(worst, ratio)
    print(f"\nworst ratio {worst:.2f}, goal {args.goal}")
    sys.exit(0 if worst >= args.goal else 1)


if __name__ == "__main__":
    main()
