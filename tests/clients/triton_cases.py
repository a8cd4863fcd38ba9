"""tritonclient[grpc]: KServe v2 and Triton's streams."""
import contextlib
import io
import json
import pathlib
import queue
import re
import unittest

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from reference import KEY, PROMPT, SAMPLING, generate, llama, llama_with_keys
from support import PATIENCE_S, SOURCE

DATATYPES = {"max_tokens": "INT32", "temperature": "FP32", "top_p": "FP32", "top_k": "INT32",
             "seed": "UINT64"}


def tensor(name, values, datatype):
    values = np.array(values, dtype=triton_to_np_dtype(datatype))
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def inputs_of(prompt, **parameters):
    return [tensor("text_input", [prompt.encode()], "BYTES"),
            *(tensor(name, [value], DATATYPES.get(name, "BOOL"))
              for name, value in parameters.items())]


def outputs_of(*names):
    return [triton.InferRequestedOutput(name) for name in names]


@contextlib.contextmanager
def connected(server):
    with triton.InferenceServerClient(server.target) as client:
        yield client


class Answers:
    """What a stream's callback hears."""

    def __init__(self, client, **options):
        self._answers = queue.Queue()
        client.start_stream(lambda result, error: self._answers.put((result, error)), **options)

    def until_final(self):
        """[(result, error)] of one request, or of all that are under way in turns."""
        answers = []
        while True:
            result, error = self._answers.get(timeout=PATIENCE_S)
            answers.append((result, error))
            if error or result.get_response().parameters["triton_final_response"].bool_param:
                return answers


class TritonTest(unittest.TestCase):
    def test_server_and_model_tell_of_themselves(self):
        with llama() as server, connected(server) as client:
            self.assertTrue(client.is_server_live())
            self.assertTrue(client.is_server_ready())
            self.assertTrue(client.is_model_ready("llama-tiny"))
            self.assertFalse(client.is_model_ready("other"))
            self.assertEqual(client.get_server_metadata().name, "sluice")
            model = client.get_model_metadata("llama-tiny", as_json=True)
            self.assertEqual(model["inputs"][0],
                             {"name": "text_input", "datatype": "BYTES", "shape": ["1"]})
            with self.assertRaises(InferenceServerException) as unknown:
                client.get_model_metadata("other")
            self.assertEqual(unknown.exception.status(), "StatusCode.NOT_FOUND")

    def test_infer_gives_the_tokens_of_generate(self):
        with llama() as server, connected(server) as client:
            expected = generate(server, prompt=PROMPT, logprobs=0, **SAMPLING)
            answer = client.infer("llama-tiny", inputs_of(PROMPT, **SAMPLING),
                                  outputs=outputs_of("text_output", "output_ids",
                                                     "output_log_probs", "finish_reason"))
            self.assertEqual(answer.as_numpy("text_output")[0].decode(), expected["text"])
            self.assertEqual(answer.as_numpy("output_ids").tolist(), expected["token_ids"])
            self.assertEqual(answer.as_numpy("finish_reason")[0].decode(),
                             expected["finish_reason"])
            np.testing.assert_array_equal(
                answer.as_numpy("output_log_probs"),
                np.array([place["logprob"] for place in expected["logprobs"]], np.float32))
            self.assertEqual(answer.get_response().parameters["sluice_seed"].string_param, "3")

    def test_a_stream_gives_them_piece_by_piece(self):
        with llama() as server, connected(server) as client:
            expected = generate(server, prompt=PROMPT, **SAMPLING)
            answers = Answers(client)
            client.async_stream_infer("llama-tiny", inputs_of(PROMPT, stream=True, **SAMPLING),
                                      outputs=outputs_of("text_output", "output_ids"),
                                      request_id="one", enable_empty_final_response=True)
            got = answers.until_final()
            client.stop_stream()
            self.assertEqual([error for _, error in got], [None] * len(got))
            self.assertGreater(len(got), 1)
            self.assertEqual({result.get_response().id for result, _ in got}, {"one"})
            self.assertEqual(b"".join(r.as_numpy("text_output")[0] for r, _ in got).decode(),
                             expected["text"])
            self.assertEqual(sum((r.as_numpy("output_ids").tolist() for r, _ in got), []),
                             expected["token_ids"])

    def test_many_requests_of_one_stream(self):
        prompts = [f"{PROMPT} number {i}" for i in range(40)]
        with llama() as server, connected(server) as client:
            texts = {str(i): "" for i in range(len(prompts))}
            answers = Answers(client)
            for i, prompt in enumerate(prompts):
                client.async_stream_infer(
                    "llama-tiny", inputs_of(prompt, stream=i % 2 == 0, **SAMPLING),
                    request_id=str(i))
            for _ in prompts:
                for result, error in answers.until_final():
                    self.assertIsNone(error)
                    texts[result.get_response().id] += result.as_numpy("text_output")[0].decode()
            client.stop_stream()
            for i in (0, 1, 38, 39):
                expected = generate(server, prompt=prompts[i], **SAMPLING)
                self.assertEqual(texts[str(i)], expected["text"])

    def test_errors_have_their_status_and_leave_the_stream(self):
        with llama() as server, connected(server) as client:
            for parameters, status, words in (
                    ({"top_p": "7"}, "INVALID_ARGUMENT", "top_p is 7"),
                    ({"temprature": "1"}, "INVALID_ARGUMENT", "temprature"),
                    ({"lora_name": "x"}, "UNIMPLEMENTED", "lora_name")):
                with self.assertRaises(InferenceServerException) as refused:
                    client.infer("llama-tiny", inputs_of(PROMPT), parameters=parameters)
                self.assertEqual(refused.exception.status(), "StatusCode." + status)
                self.assertIn(words, refused.exception.message())
            with self.assertRaises(InferenceServerException) as unknown:
                client.infer("other", inputs_of(PROMPT))
            self.assertEqual(unknown.exception.status(), "StatusCode.NOT_FOUND")

            answers = Answers(client)
            client.async_stream_infer("llama-tiny", inputs_of(PROMPT, max_tokens=0))
            [(_, error)] = answers.until_final()
            self.assertIn("INVALID_ARGUMENT: max_tokens is 0", error.message())
            client.async_stream_infer("llama-tiny", inputs_of(PROMPT, max_tokens=2))
            [(result, error)] = answers.until_final()
            self.assertIsNone(error)
            self.assertTrue(result.as_numpy("text_output")[0])
            client.stop_stream()

    def test_the_request_of_vllms_sample_client(self):
        sampling = {"temperature": "0.75", "top_p": "0.875", "top_k": "50", "max_tokens": "40",
                    "seed": "3"}
        with llama() as server, connected(server) as client:
            expected = generate(server, prompt=PROMPT, **SAMPLING)
            answers = Answers(client)
            client.async_stream_infer(
                "llama-tiny",
                [*inputs_of(PROMPT, stream=True, exclude_input_in_output=True),
                 tensor("sampling_parameters", [json.dumps(sampling).encode()], "BYTES")],
                outputs=outputs_of("text_output"), parameters=sampling)
            got = answers.until_final()
            client.stop_stream()
            self.assertEqual(b"".join(r.as_numpy("text_output")[0] for r, _ in got).decode(),
                             expected["text"])

    def test_the_request_of_tensorrt_llms_sample_client(self):
        """Shapes [1, 1], empty word lists and all of the optional tensors."""
        with llama() as server, connected(server) as client:
            expected = generate(server, prompt=PROMPT, repetition_penalty=1.25, echo="true",
                                **SAMPLING)
            inputs = [tensor(name, [[value]], datatype) for name, value, datatype in (
                ("text_input", PROMPT.encode(), "BYTES"), ("max_tokens", 40, "INT32"),
                ("bad_words", b"", "BYTES"), ("stop_words", b"", "BYTES"), ("stream", False, "BOOL"),
                ("beam_width", 1, "INT32"), ("temperature", 0.75, "FP32"), ("top_k", 50, "INT32"),
                ("top_p", 0.875, "FP32"), ("length_penalty", 1.0, "FP32"),
                ("repetition_penalty", 1.25, "FP32"), ("presence_penalty", 0.0, "FP32"),
                ("random_seed", 3, "UINT64"), ("return_log_probs", True, "BOOL"),
                ("return_context_logits", False, "BOOL"),
                ("return_generation_logits", False, "BOOL"),
                ("exclude_input_in_output", False, "BOOL"))]
            answer = client.infer("llama-tiny", inputs)
            self.assertEqual(answer.as_numpy("text_output")[0].decode(), expected["text"])
            self.assertTrue(answer.as_numpy("text_output")[0].decode().startswith(PROMPT))
            self.assertEqual(answer.as_numpy("cum_log_probs").shape, (1,))

    def test_keys(self):
        with llama_with_keys() as server, connected(server) as client:
            self.assertTrue(client.is_server_ready())
            for headers in (None, {"authorization": "Bearer wrong"}):
                with self.assertRaises(InferenceServerException) as refused:
                    client.infer("llama-tiny", inputs_of(PROMPT), headers=headers)
                self.assertEqual(refused.exception.status(), "StatusCode.UNAUTHENTICATED")
            headers = {"authorization": f"Bearer {KEY}"}
            answer = client.infer("llama-tiny", inputs_of(PROMPT, max_tokens=2), headers=headers)
            self.assertTrue(answer.as_numpy("text_output")[0])

    def test_the_example_of_the_docs(self):
        page = pathlib.Path(SOURCE, "docs", "kserve.md").read_text(encoding="utf-8")
        [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        with llama() as server:
            self.assertIn("127.0.0.1:50051", example)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(example.replace("127.0.0.1:50051", server.target), {})
            first = generate(server, prompt="The weather", max_tokens=40, temperature=0.7, seed=1)
            self.assertTrue(out.getvalue().startswith(first["text"] + "\n"), out.getvalue())
            self.assertGreater(len(out.getvalue()), len(first["text"]) + 20)
