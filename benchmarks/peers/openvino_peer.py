"""OpenVINO GenAI as a peer; see peer.py."""

import numpy
import openvino
import openvino_genai

import peer

KV_CACHE_GIB = 3


def load(options):
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = KV_CACHE_GIB
    scheduler.max_num_seqs = 64
    scheduler.enable_prefix_caching = False
    properties = {"INFERENCE_NUM_THREADS": options.threads}
    pipeline = openvino_genai.ContinuousBatchingPipeline(options.model, scheduler, "CPU",
                                                         properties)

    def generate(prompts, num_new, sampled):
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = num_new
        config.ignore_eos = True
        config.do_sample = sampled
        if sampled:
            config.temperature, config.top_p, config.top_k = peer.TEMPERATURE, peer.TOP_P, 0
        tensors = [openvino.Tensor(numpy.array([prompt], dtype=numpy.int64)) for prompt in prompts]
        results = pipeline.generate(tensors, [config] * len(prompts))
        return [result.m_generation_ids[0] for result in results]

    return generate, f"ContinuousBatchingPipeline cache_size={KV_CACHE_GIB} {properties}"


if __name__ == "__main__":
    peer.main(load, f"openvino-genai {openvino_genai.__version__}")
