#!/usr/bin/env python3
"""Measures Hugging Face Transformers on one checkpoint; run by compare.py inside its environment.

Prints one JSON object: tokens per second of prefill and of decode, over all streams. A decode rate
is taken from the difference of a long and a short run, so that prefill and start-up cancel out.
"""

import argparse
import json
import statistics
import time

import torch
import transformers


def generate_seconds(model, tokens, num_new, sampled) -> float:
    """Wall time of one generate() call that makes exactly `num_new` tokens a stream."""
    sampling = {"do_sample": False}
    if sampled:
        sampling = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 0}
    start = time.perf_counter()
    with torch.inference_mode():
        out = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=num_new,
                             min_new_tokens=num_new, pad_token_id=0, use_cache=True, **sampling)
    seconds = time.perf_counter() - start
    if out.shape[1] != tokens.shape[1] + num_new:
        raise SystemExit(f"generate() made {out.shape[1] - tokens.shape[1]} tokens, not {num_new}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--short", type=int, default=10, help="new tokens of the short run")
    parser.add_argument("--long", type=int, default=50, help="new tokens of the long run")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--greedy", action="store_true")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, torch_dtype=getattr(torch, args.dtype)).eval()
    vocabulary = model.config.vocab_size
    tokens = torch.randint(10, vocabulary - 10, (args.concurrency, args.prompt_tokens))
    generate_seconds(model, tokens, 2, not args.greedy)  # warm-up
    rates, prefills = [], []
    for _ in range(args.repeat):
        first = generate_seconds(model, tokens, 1, not args.greedy)
        short = generate_seconds(model, tokens, args.short, not args.greedy)
        long = generate_seconds(model, tokens, args.long, not args.greedy)
        rates.append(args.concurrency * (args.long - args.short) / (long - short))
        prefills.append(tokens.numel() / first)
    print(json.dumps({
        "decode_tokens_per_s": statistics.median(rates),
        "prefill_tokens_per_s": statistics.median(prefills),
        "version": f"transformers {transformers.__version__}, torch {torch.__version__}",
    }))


if __name__ == "__main__":
    main()
