"""Says whether tokens are Transformers' greedy ones in float32; run in the base environment.

    greedy_tokens.py HF_FOLDER < {"prompts": [[...], ...], "answers": [[...], ...]}

One pass over each prompt with its answer gives the logits at every place. Prints {"tokens", "equal",
"largest_gap", "bound"}: how far the logit of a token that is not the likeliest lies below it, and
what float32 arithmetic in another order can make of it.
"""

import json
import sys

import torch
import transformers

# Of the deviation of a row's logits: float32 has 2^-24, some hundred roundings deep.
RELATIVE_BOUND = 1e-4


def main():
    asked = json.load(sys.stdin)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        sys.argv[1], torch_dtype=torch.float32).eval()
    tokens = equal = 0
    largest_gap, bound = 0.0, float("inf")
    for prompt, answer in zip(asked["prompts"], asked["answers"], strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1:-1]
        gaps = logits.max(-1).values - logits.gather(1, torch.tensor(answer)[:, None])[:, 0]
        tokens += len(answer)
        equal += int((gaps == 0).sum())
        largest_gap = max(largest_gap, gaps.max().item())
        bound = min(bound, RELATIVE_BOUND * logits.std(-1).min().item())
    print(json.dumps({"tokens": tokens, "equal": equal, "largest_gap": largest_gap,
                      "bound": bound}))


if __name__ == "__main__":
    main()
