"""OpenAI's HTTP of `sluice serve`: the tokens of gRPC, through a plain client."""
import json
import socket
import urllib.error
import urllib.request

from support import BLOOM, LLAMA, SMALL, CommandLineTest, json_lines, running_server, sluice


def post(server, path, body):
    request = urllib.request.Request(f"http://{server.http_target}{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode("utf-8")


def events(text):
    """The JSON of each server-sent event, without the last one."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]", lines[-1]
    return [json.loads(line) for line in lines[:-1]]


class HttpTest(CommandLineTest):
    def test_every_way_in_gives_the_same_tokens(self):
        with running_server("--model", LLAMA, "--model", f"zh={BLOOM}", *SMALL) as server:
            for name, prompt in (("llama-tiny", "Once upon a time"),
                                 ("zh", "人工智能的发展正在改变世界")):
                body = {"model": name, "prompt": prompt, "max_tokens": 50, "temperature": 0.7,
                        "top_p": 0.9, "seed": 3, "logprobs": 1, "return_token_ids": True}
                flags = [f"--{key.replace('_', '-')}={value}" for key, value in body.items()
                         if key != "return_token_ids"]
                remote = server.client(*flags, "--json")
                self.assert_done(remote)
                grpc = json_lines(remote.out)[0]

                whole = json.loads(post(server, "/v1/completions", body))["choices"][0]
                self.assertEqual(whole["text"], grpc["text"])
                self.assertEqual(whole["token_ids"], grpc["token_ids"])
                self.assertEqual(whole["logprobs"]["token_logprobs"],
                                 [place["logprob"] for place in grpc["logprobs"]])

                body |= {"stream": True, "stream_options": {"include_usage": True}}
                streamed = events(post(server, "/v1/completions", body))
                choices = [event["choices"][0] for event in streamed[:-1]]
                self.assertEqual("".join(choice["text"] for choice in choices), grpc["text"])
                self.assertEqual(sum((c.get("token_ids", []) for c in choices), []),
                                 grpc["token_ids"])
                self.assertEqual(streamed[-1]["usage"]["completion_tokens"], 50)
                self.assertEqual(streamed[-1]["sluice"]["seed"], 3)

    def test_refusals_name_the_field(self):
        with running_server("--model", LLAMA, *SMALL) as server:
            for body, param in (({"prompt": "a", "top_p": 7}, "top_p"),
                                ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
                                ({"prompt": "a", "n": 9}, "n"),
                                ({"prompt": [10**9]}, "prompt"),
                                ({"prompt": "a", "logprobs": 21}, "logprobs")):
                with self.assertRaises(urllib.error.HTTPError) as refused:
                    post(server, "/v1/completions", body)
                self.assertEqual(refused.exception.code, 400)
                self.assertEqual(json.load(refused.exception)["error"]["param"], param)

    def test_a_chat_is_the_one_of_grpc(self):
        messages = [{"role": "user", "content": "The weather"}]
        with running_server("--model", LLAMA, *SMALL) as server:
            remote = server.client("--messages", json.dumps(messages), "--max-tokens", "10", "--seed",
                                   "1", "--json")
            self.assert_done(remote)
            answer = json.loads(post(server, "/v1/chat/completions",
                                     {"messages": messages, "max_completion_tokens": 10, "seed": 1}))
            self.assertEqual(answer["choices"][0]["message"]["content"],
                             json_lines(remote.out)[0]["text"])

    def test_either_listener_alone(self):
        with running_server("--model", LLAMA, *SMALL, "--http-address", "none") as server:
            self.assertIsNone(server.http_target)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            outcome = sluice("serve", "--model", LLAMA, *SMALL, "--quiet", "--admin-address", "none",
                             "--grpc-address", "none", "--http-address", address)
            self.assert_refused(outcome, str(taken.getsockname()[1]))
