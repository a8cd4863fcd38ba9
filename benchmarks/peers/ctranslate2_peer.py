"""CTranslate2 as a peer; see peer.py."""

import json
import pathlib

import ctranslate2

import peer

COMPUTE_TYPES = {"bf16": "bfloat16", "int8": "int8"}


def load(options):
    folder = pathlib.Path(options.model)
    words = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    compute_type = COMPUTE_TYPES[options.precision]
    generator = ctranslate2.Generator(str(folder), device="cpu", compute_type=compute_type,
                                      inter_threads=1, intra_threads=options.threads)

    def generate(prompts, num_new, sampled):
        sampling = {"sampling_topk": 1}
        if sampled:
            sampling = {"sampling_topk": 0, "sampling_topp": peer.TOP_P,
                        "sampling_temperature": peer.TEMPERATURE}
        results = generator.generate_batch(
            [[words[token] for token in prompt] for prompt in prompts], beam_size=1,
            max_length=num_new, min_length=num_new, include_prompt_in_result=False, end_token=[],
            **sampling)
        return [result.sequences_ids[0] for result in results]

    return generate, f"compute_type={compute_type}"


if __name__ == "__main__":
    peer.main(load, f"ctranslate2 {ctranslate2.__version__}")
