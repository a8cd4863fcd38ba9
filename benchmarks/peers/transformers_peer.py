"""Hugging Face Transformers as a peer; see peer.py."""

import torch
import transformers

import peer


def load(options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, torch_dtype=torch.bfloat16).eval()

    def generate(prompts, num_new, sampled):
        sampling = {"do_sample": False}
        if sampled:
            sampling = {"do_sample": True, "temperature": peer.TEMPERATURE, "top_p": peer.TOP_P,
                        "top_k": 0}
        tokens = torch.tensor(prompts)
        with torch.inference_mode():
            out = model.generate(tokens, attention_mask=torch.ones_like(tokens),
                                 max_new_tokens=num_new, min_new_tokens=num_new, pad_token_id=0,
                                 use_cache=True, **sampling)
        return out[:, tokens.shape[1]:].tolist()

    return generate, "torch_dtype=bfloat16"


if __name__ == "__main__":
    peer.main(load, f"transformers {transformers.__version__}, torch {torch.__version__}")
