"""What every peer's process does: load a model, then measure what it is asked on stdin.

A peer is a file NAME_peer.py with `load(options) -> generate`, where
`generate(prompts, num_new, sampled) -> streams` takes lists of token ids and gives exactly `num_new`
new ids for each (temperature 0.7 and top-p 0.9 if `sampled`, else greedy).

  NAME_peer.py --model PATH --precision bf16|int8|int4 --vocabulary-size N

One JSON object a line. First comes {"version", "flags", "load_s"}; then an answer for each workload
on stdin (the fields of rows.Workload): {"tokens_per_s"}. With --first-token, the process ends after
{"first_token_s"}: the time from after the imports to the first token.
"""

import argparse
import json
import os
import random
import sys
import time

TEMPERATURE, TOP_P = 0.7, 0.9


class Meter:
    """Measures workloads with one loaded model."""

    def __init__(self, generate, vocabulary_size):
        self._generate = generate
        self._vocabulary_size = vocabulary_size
        self._random = random.Random(1)
        self._warm = set()

    def seconds(self, streams, prompt_tokens, num_new, sampled):
        """Wall time of generating from prompts that were never used before."""
        prompts = [[self._random.randrange(10, self._vocabulary_size - 10)
                    for _ in range(prompt_tokens)] for _ in range(streams)]
        begin = time.perf_counter()
        answers = self._generate(prompts, num_new, sampled)
        seconds = time.perf_counter() - begin
        counts = sorted({len(answer) for answer in answers})
        if len(answers) != streams or counts != [num_new]:
            raise SystemExit(f"made {counts} tokens for {len(answers)} streams, not {num_new} for "
                             f"{streams}: the result is wrong")
        return seconds

    def tokens_per_s(self, kind, streams, prompt_tokens, short, long, sampled):
        """Rate over all streams.

        Prefill: prompt tokens by the time to the first token. Decode: the difference of a long and
        a short run, so that prefill and start-up cancel out.
        """
        shape = (kind, streams, prompt_tokens, sampled)
        if shape not in self._warm:
            self.seconds(streams, prompt_tokens, 2, sampled)
            self._warm.add(shape)
        if kind == "prefill":
            return streams * prompt_tokens / self.seconds(streams, prompt_tokens, 1, sampled)
        short_s = self.seconds(streams, prompt_tokens, short, sampled)
        long_s = self.seconds(streams, prompt_tokens, long, sampled)
        return streams * (long - short) / (long_s - short_s)


def private_stdout():
    """Keeps stdout for the answers: what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def main(load, version):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="folder")
    parser.add_argument("--precision", choices=("bf16", "int8", "int4"), required=True)
    parser.add_argument("--vocabulary-size", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--first-token", action="store_true")
    options = parser.parse_args()
    answers = private_stdout()

    begin = time.perf_counter()
    generate, flags = load(options)
    load_s = time.perf_counter() - begin
    meter = Meter(generate, options.vocabulary_size)
    if options.first_token:
        meter.seconds(1, 16, 1, False)
        first = {"first_token_s": time.perf_counter() - begin}
        print(json.dumps(first), file=answers, flush=True)
        return
    print(json.dumps({"version": version, "flags": flags, "load_s": load_s}), file=answers,
          flush=True)
    for line in sys.stdin:
        rate = meter.tokens_per_s(**json.loads(line))
        print(json.dumps({"tokens_per_s": rate}), file=answers, flush=True)
