"""llama.cpp as a peer, through its C interface as llama-cpp-python binds it; see peer.py."""

import importlib.metadata
import pathlib

import llama_cpp
import numpy

import peer

FILES = {"bf16": "bf16.gguf", "int8": "q8_0.gguf", "int4": "q4_0.gguf"}
BATCH = 2048
ROUNDING = 256  # of a stream's places, so that runs of nearly the same length share a context
SEED = 1


class Streams:
    """A context for some number of streams of some number of places."""

    def __init__(self, model, vocabulary_size, num_streams, num_places, threads):
        self.shape = (num_streams, num_places)
        self._vocabulary_size = vocabulary_size
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = num_streams * num_places
        parameters.n_batch = BATCH
        parameters.n_seq_max = num_streams
        parameters.n_threads = parameters.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(model, parameters)
        if not self._context:
            raise SystemExit("llama.cpp made no context")
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)

    def close(self):
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)

    def _decode(self, rows):
        """Runs (token, place, stream, needs logits) rows, at most BATCH of them."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, (token, place, stream, needs_logits) in enumerate(rows):
            batch.token[i] = token
            batch.pos[i] = place
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = stream
            batch.logits[i] = needs_logits
        code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            raise SystemExit(f"llama_decode gave {code}")

    def _pick(self, row, sampler):
        if sampler is not None:
            return llama_cpp.llama_sampler_sample(sampler, self._context, row)
        logits = llama_cpp.llama_get_logits_ith(self._context, row)
        return int(numpy.ctypeslib.as_array(logits, (self._vocabulary_size,)).argmax())

    def generate(self, prompts, num_new, sampler):
        """The prompts go in batches of BATCH rows, then each step has one row a stream."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        rows = [(token, place, stream, place + 1 == len(prompt))
                for stream, prompt in enumerate(prompts) for place, token in enumerate(prompt)]
        answers = [[] for _ in prompts]
        for begin in range(0, len(rows), BATCH):
            part = rows[begin:begin + BATCH]
            self._decode(part)
            for i, (_, _, stream, needs_logits) in enumerate(part):
                if needs_logits:
                    answers[stream].append(self._pick(i, sampler))
        for step in range(1, num_new):
            self._decode([(answer[-1], len(prompt) + step - 1, stream, True)
                          for stream, (prompt, answer) in enumerate(zip(prompts, answers))])
            for stream, answer in enumerate(answers):
                answer.append(self._pick(stream, sampler))
        return answers


def top_p_sampler():
    """Temperature, top-p, then a draw, in llama.cpp's own code."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for sampler in (llama_cpp.llama_sampler_init_temp(peer.TEMPERATURE),
                    llama_cpp.llama_sampler_init_top_p(peer.TOP_P, 1),
                    llama_cpp.llama_sampler_init_dist(SEED)):
        llama_cpp.llama_sampler_chain_add(chain, sampler)
    return chain


def load(options):
    llama_cpp.llama_backend_init()
    path = pathlib.Path(options.model) / FILES[options.precision]
    model = llama_cpp.llama_model_load_from_file(str(path).encode(),
                                                 llama_cpp.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp cannot load {path.name}")
    sampler = top_p_sampler()

    kept = []  # the context of the last call

    def generate(prompts, num_new, sampled):
        num_places = -(-(len(prompts[0]) + num_new) // ROUNDING) * ROUNDING
        if not kept or kept[0].shape != (len(prompts), num_places):
            for streams in kept:
                streams.close()
            kept[:] = [Streams(model, options.vocabulary_size, len(prompts), num_places,
                               options.threads)]
        return kept[0].generate(prompts, num_new, sampler if sampled else None)

    machine = llama_cpp.llama_print_system_info().decode().strip()
    return generate, f"{path.name} n_batch={BATCH}; {machine}"


if __name__ == "__main__":
    peer.main(load, f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}")
