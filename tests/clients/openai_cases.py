"""The openai package: OpenAI's HTTP API."""
import asyncio
import unittest

import openai

from reference import KEY, PROMPT, SAMPLING, generate, llama, llama_with_keys

MESSAGES = [{"role": "user", "content": "The weather"}]


def client_of(server, api_key="none", kind=openai.OpenAI):
    return kind(base_url=f"http://{server.http_target}/v1", api_key=api_key, max_retries=0)


def without_top_k(sampling):
    """OpenAI's own parameters, and what goes into extra_body."""
    return {key: value for key, value in sampling.items() if key != "top_k"}, {
        "top_k": sampling["top_k"], "return_token_ids": True}


class OpenAiTest(unittest.TestCase):
    def test_completions_have_the_tokens_of_generate(self):
        own, extra = without_top_k(SAMPLING)
        with llama() as server:
            expected = generate(server, prompt=PROMPT, logprobs=2, **SAMPLING)
            client = client_of(server)
            self.assertEqual([model.id for model in client.models.list()], ["llama-tiny"])
            answer = client.completions.create(model="llama-tiny", prompt=PROMPT, logprobs=2,
                                               extra_body=extra, **own)
            [choice] = answer.choices
            self.assertEqual(choice.text, expected["text"])
            self.assertEqual(choice.token_ids, expected["token_ids"])
            self.assertEqual(choice.finish_reason, expected["finish_reason"])
            self.assertEqual(choice.logprobs.token_logprobs,
                             [place["logprob"] for place in expected["logprobs"]])
            self.assertTrue(all(len(top) in (2, 3) for top in choice.logprobs.top_logprobs))
            self.assertEqual(answer.usage.completion_tokens, len(expected["token_ids"]))
            self.assertEqual(answer.usage.total_tokens,
                             answer.usage.prompt_tokens + answer.usage.completion_tokens)

            events = list(client.completions.create(
                model="llama-tiny", prompt=PROMPT, stream=True,
                stream_options={"include_usage": True}, extra_body=extra, **own))
            self.assertEqual("".join(event.choices[0].text for event in events[:-1]),
                             expected["text"])
            self.assertEqual(events[-2].choices[0].finish_reason, expected["finish_reason"])
            self.assertEqual(events[-1].choices, [])
            self.assertEqual(events[-1].usage, answer.usage)

    def test_chats_have_the_tokens_of_generate(self):
        own, extra = without_top_k(SAMPLING)
        with llama() as server:
            expected = generate(server, messages='[{"role": "user", "content": "The weather"}]',
                                **SAMPLING)
            client = client_of(server)
            answer = client.chat.completions.create(model="llama-tiny", messages=MESSAGES,
                                                    logprobs=True, top_logprobs=2,
                                                    extra_body=extra, **own)
            self.assertEqual(answer.choices[0].message.role, "assistant")
            self.assertEqual(answer.choices[0].message.content, expected["text"])
            places = answer.choices[0].logprobs.content
            self.assertEqual(len(places), len(expected["token_ids"]))
            self.assertEqual({len(place.top_logprobs) for place in places}, {2})
            with client.chat.completions.create(model="llama-tiny", messages=MESSAGES, stream=True,
                                                extra_body=extra, **own) as stream:
                text = "".join(event.choices[0].delta.content or "" for event in stream)
            self.assertEqual(text, expected["text"])

    def test_two_choices_and_stop_strings(self):
        own, extra = without_top_k(SAMPLING)
        with llama() as server:
            answer = client_of(server).completions.create(model="llama-tiny", prompt=PROMPT, n=2,
                                                          extra_body=extra, **own)
            self.assertEqual([choice.index for choice in answer.choices], [0, 1])
            self.assertNotEqual(answer.choices[0].text, answer.choices[1].text)
            word = answer.choices[0].text.split()[3]
            stopped = client_of(server).completions.create(
                model="llama-tiny", prompt=PROMPT, stop=[word], extra_body=extra, **own)
            self.assertEqual(stopped.choices[0].text, answer.choices[0].text.split(word)[0])
            self.assertEqual(stopped.choices[0].finish_reason, "stop")

    def test_errors_are_the_clients_own_classes(self):
        with llama() as server:
            client = client_of(server)
            for error, arguments, words in (
                    (openai.BadRequestError, {"top_p": 7}, "top_p is 7"),
                    (openai.BadRequestError, {"max_tokens": 0}, "max_tokens is 0"),
                    (openai.BadRequestError, {"extra_body": {"temprature": 1}}, "temprature"),
                    (openai.NotFoundError, {"model": "other"}, "model"),
                    (openai.InternalServerError, {"best_of": 4}, "best_of")):
                with self.assertRaises(error) as refused:
                    client.completions.create(
                        **({"model": "llama-tiny", "prompt": PROMPT} | arguments))
                self.assertIn(words, refused.exception.message)
            self.assertEqual(refused.exception.status_code, 501)
            with self.assertRaises(openai.BadRequestError) as refused:
                client.completions.create(model="llama-tiny", prompt=PROMPT, top_p=7)
            self.assertEqual(refused.exception.param, "top_p")
            with self.assertRaises(openai.NotFoundError):
                client.models.retrieve("other")

    def test_a_live_id_again_is_a_conflict(self):
        with llama() as server:
            client = client_of(server)
            headers = {"x-request-id": "twice"}
            request = {"model": "llama-tiny", "prompt": PROMPT, "extra_headers": headers,
                       "extra_body": {"ignore_eos": True}}
            with client.completions.create(max_tokens=400, stream=True, **request) as stream:
                next(iter(stream))
                with self.assertRaises(openai.ConflictError):
                    client.completions.create(max_tokens=1, **request)

    def test_keys(self):
        with llama_with_keys() as server:
            with self.assertRaises(openai.AuthenticationError):
                client_of(server, "wrong").models.list()
            self.assertEqual(len(client_of(server, KEY).models.list().data), 1)

    def test_many_streams_at_once_are_each_as_alone(self):
        own, extra = without_top_k(SAMPLING)

        async def stream(client, i):
            text = ""
            async for event in await client.completions.create(
                    model="llama-tiny", prompt=f"{PROMPT} {i}", stream=True, extra_body=extra, **own):
                text += event.choices[0].text
            return text

        async def all_streams(server):
            async with client_of(server, kind=openai.AsyncOpenAI) as client:
                return await asyncio.gather(*(stream(client, i) for i in range(32)))

        with llama() as server:
            texts = asyncio.run(all_streams(server))
            for i in (0, 15, 31):
                alone = generate(server, prompt=f"{PROMPT} {i}", **SAMPLING)
                self.assertEqual(texts[i], alone["text"])
