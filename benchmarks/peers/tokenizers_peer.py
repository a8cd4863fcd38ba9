#!/usr/bin/env python3
"""The reference libraries' speed on one thread, for tokenizer_bench's folder and text.

    tokenizers_peer.py FOLDER TEXT_FILE

Needs tokenizers, sentencepiece. Times are the process's own CPU time, median of nine runs.
"""

import os
import statistics
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"


def measure(name, num_bytes, call):
    rates = []
    for _ in range(9):
        begin = time.process_time()
        call()
        rates.append(num_bytes / (time.process_time() - begin) / 1e6)
    print(f"{name}: {statistics.median(rates):.2f} MB/s ({min(rates):.2f} to {max(rates):.2f})")


def main():
    folder, text_file = sys.argv[1:]
    with open(text_file, encoding="utf-8", newline="") as file:
        text = file.read()
    json_file = os.path.join(folder, "tokenizer.json")
    if os.path.exists(json_file):
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(json_file)
        tokenizer.encode_special_tokens = True

        def encode(part):
            return tokenizer.encode(part)
    else:
        import sentencepiece
        encode = sentencepiece.SentencePieceProcessor(os.path.join(folder, "tokenizer.model")).encode
    paragraphs = [part for part in text.split("\n\n") if part]
    measure("encode/whole", len(text.encode()), lambda: encode(text))
    measure("encode/paragraphs", sum(len(part.encode()) for part in paragraphs),
            lambda: [encode(part) for part in paragraphs])


if __name__ == "__main__":
    main()
