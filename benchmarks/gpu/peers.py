#!/usr/bin/env python3
"""Transformers on the same GPU, with random weights of a published shape, sampling as Sluice does.

    peers.py SHAPE ... [--runs 1x128+128,32x1000+64] [--warm-up-only]

A run is STREAMSxPROMPT+OUTPUT. One stream goes through generate() with a static cache, whose decode
steps it compiles; more go through generate_batch(), continuous batching. Prints a JSON object a
line, as soon as it is known: {"shape", "transformers", "torch"}, then {"run", "how", "decode_tokens_per_s"}.
The rate of one stream is the difference of a long and a short run; that of many counts the tokens
between the last first token and the first last one, as Sluice's does. Exits with 77 without
Transformers. --warm-up-only compiles the step of one stream, so that the next process finds it in
the compiler's cache.
"""

import argparse
import importlib.util
import json
import os
import re
import statistics
import sys
import time

import shapes

SKIPPED = 77
TEMPERATURE, TOP_P = 0.7, 0.9
SHORT_TOKENS = 16
REPETITIONS = 3


def parse_run(text):
    match = re.fullmatch(r"(\d+)x(\d+)\+(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is not STREAMSxPROMPT+OUTPUT")
    return tuple(map(int, match.groups()))


def print_line(**members):
    print(json.dumps(members), flush=True)


class Transformers:
    """A model with random weights on the GPU."""

    def __init__(self, config, device="cuda"):
        import torch
        import transformers
        self._torch, self._transformers = torch, transformers
        settings = {key: value for key, value in config.items()
                    if key not in ("architectures", "model_type", "eos_token_id")}
        made = transformers.AutoConfig.for_model(
            config["model_type"], eos_token_id=None, bos_token_id=None, pad_token_id=0, **settings)
        torch.manual_seed(1)
        # Made on the device and in bf16 at once; drawn anew, as not every class draws on creation.
        with torch.device(device):
            self._model = transformers.AutoModelForCausalLM.from_config(
                made, dtype=torch.bfloat16).eval()
        with torch.no_grad():
            for parameter in self._model.parameters():
                if parameter.dim() == 2:
                    parameter.normal_(0, 0.02)
        self._vocabulary_size = config["vocab_size"]

    def versions(self):
        return {"transformers": self._transformers.__version__, "torch": self._torch.__version__}

    def generation(self, num_new, **more):
        return self._transformers.GenerationConfig(
            max_new_tokens=num_new, do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=0,
            eos_token_id=None, bos_token_id=None, pad_token_id=0, **more)

    def prompts(self, streams, num_tokens):
        return self._torch.randint(10, self._vocabulary_size - 10, (streams, num_tokens))

    def seconds_alone(self, prompt_tokens, num_new):
        """Of one stream, from an uncompiled prompt through compiled steps."""
        torch = self._torch
        tokens = self.prompts(1, prompt_tokens).to(self._model.device)
        begin = time.perf_counter()
        with torch.inference_mode():
            made = self._model.generate(
                tokens, attention_mask=torch.ones_like(tokens),
                generation_config=self.generation(num_new, cache_implementation="static"))
        made = made.tolist()  # waits for the GPU
        seconds = time.perf_counter() - begin
        if len(made[0]) != prompt_tokens + num_new:
            sys.exit(f"made {len(made[0]) - prompt_tokens} tokens, not {num_new}")
        return seconds

    def warm_up_alone(self, prompt_tokens, num_new):
        for _ in range(2):  # compiles, then records
            self.seconds_alone(prompt_tokens, num_new)

    def alone(self, prompt_tokens, num_new):
        """Tokens a second. The long run comes first: it fixes the size of the cache."""
        self.warm_up_alone(prompt_tokens, num_new)
        rates = [(num_new - SHORT_TOKENS) / (self.seconds_alone(prompt_tokens, num_new)
                                             - self.seconds_alone(prompt_tokens, SHORT_TOKENS))
                 for _ in range(REPETITIONS)]
        return statistics.median(rates), "generate, static cache, compiled"

    def together(self, streams, prompt_tokens, num_new):
        """Tokens a second of all streams while all of them decode."""
        prompts = self.prompts(streams, prompt_tokens).tolist()
        results = self._model.generate_batch(
            inputs=prompts, generation_config=self.generation(num_new), record_timestamps=True,
            progress_bar=False)
        times = [result.timestamps for result in results.values()]
        counts = sorted({len(result.generated_tokens) for result in results.values()})
        if len(times) != streams or counts != [num_new]:
            sys.exit(f"made {counts} tokens for {len(times)} streams, not {num_new} for {streams}")
        begin = max(each[0] for each in times)
        end = min(each[-1] for each in times)
        if end <= begin:
            sys.exit(f"{streams} streams never decoded together: raise OUTPUT")
        tokens = sum(sum(begin < at <= end for at in each) for each in times)
        # generate_batch takes the paged form of it meanwhile.
        how = f"generate_batch, paged {self._model.config._attn_implementation}"
        return tokens / (end - begin), how


def measure(shape, runs):
    peer = Transformers(shapes.config(shape))
    print_line(shape=shape, **peer.versions())
    for streams, prompt_tokens, num_new in runs:
        rate, how = (peer.alone(prompt_tokens, num_new) if streams == 1
                     else peer.together(streams, prompt_tokens, num_new))
        print_line(run={"streams": streams, "prompt_tokens": prompt_tokens,
                        "output_tokens": num_new}, how=how, decode_tokens_per_s=rate)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="+", choices=shapes.NAMES)
    parser.add_argument("--runs", type=lambda text: list(map(parse_run, text.split(","))),
                        default=[(1, 128, 128)])
    parser.add_argument("--warm-up-only", action="store_true")
    options = parser.parse_args()
    if importlib.util.find_spec("transformers") is None:
        print("there is no Transformers beside this Python's torch", file=sys.stderr)
        sys.exit(SKIPPED)
    os.environ["HF_HUB_OFFLINE"] = "1"  # a machine with a GPU may have no network to ask for kernels
    for shape in options.shapes:
        if options.warm_up_only:
            Transformers(shapes.config(shape)).warm_up_alone(*options.runs[0][1:])
        else:
            measure(shape, options.runs)


if __name__ == "__main__":
    main()
