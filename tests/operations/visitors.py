"""What the clients of a soak do: each visit is short, random, and ends with everything closed.

A visit returns what became of it: "ok", "refused" (for want of room, which is no fault) or "left" (the
client went away on purpose). Anything else that a server may answer raises.
"""
import http.client
import json
import threading
import time
import urllib.error
import urllib.request

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tritonclient.grpc import service_pb2, service_pb2_grpc

import raw_clients
from raw_clients import PATIENCE_S

GENERATE = "/sluice.v1.Generation/Generate"
LOCAL = [("grpc.use_local_subchannel_pool", 1)]  # a channel is a connection of its own
REFUSED = (grpc.StatusCode.RESOURCE_EXHAUSTED,)
LEFT = (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
MODELS = {"null": 100, "llama-tiny": 20}  # and the most tokens asked of each
SLOW_READS = 8
SLOW_PAUSE_S = 0.15


class Messages:
    """Classes of sluice.v1, of protoc's descriptor set."""

    def __init__(self, schema):
        files = descriptor_pb2.FileDescriptorSet()
        files.ParseFromString(schema.read_bytes())
        pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.Add(file)

        def find(name):
            return message_factory.GetMessageClass(pool.FindMessageTypeByName("sluice.v1." + name))

        self.Request, self.Response = find("GenerateRequest"), find("GenerateResponse")


class Regulars:
    """Connections that stay for as long as the server does: one of gRPC that guests share, one of HTTP
    that they use in turns."""

    def __init__(self, server):
        self.channel = grpc.insecure_channel(server.target, LOCAL)
        grpc.channel_ready_future(self.channel).result(PATIENCE_S)
        self.http = http.client.HTTPConnection(server.http_target, timeout=PATIENCE_S)
        self.http.request("GET", "/version")  # the server waits longer for the next than for the first
        self.http.getresponse().read()
        self.turn = threading.Lock()

    def close(self):
        self.channel.close()
        self.http.close()


class Guest:
    """One client at a time: where the server is, whose key, and a random source of its own."""

    def __init__(self, server, regulars, messages, keys, random):
        self.grpc, self.http, self.admin = server.target, server.http_target, server.admin_target
        self.regulars, self.messages, self.random = regulars, messages, random
        self._keys = keys

    def draw(self):
        """The next client: a key, a model, a prompt nobody had, and how much to ask for."""
        self.key = self.random.choice(self._keys)
        self.model = self.random.choice(("null", "null", "null", "llama-tiny"))
        # token ids, since null has no tokenizer; those of both models are below 1000
        self.prompt = [self.random.randrange(3, 1000) for _ in range(self.random.randrange(1, 90))]
        self.max_tokens = self.random.randrange(1, MODELS[self.model])
        self.metadata = [("authorization", f"Bearer {self.key}")]

    def request(self, **fields):
        return self.messages.Request(model=self.model, token_ids=self.prompt, ignore_eos=True,
                                     max_tokens=fields.pop("max_tokens", self.max_tokens), **fields)

    def long_request(self):
        """More than a client that leaves waits for, in large messages."""
        self.model = "null"
        return self.request(max_tokens=5000, n=4, logprobs=1)

    def body(self, **fields):
        return {"model": self.model, "prompt": self.prompt, "max_tokens": self.max_tokens,
                "ignore_eos": True, **fields}

    def long_body(self):
        self.model = "null"
        return self.body(max_tokens=5000, n=4, logprobs=1, stream=True)

    def open_stream(self, channel, request, timeout=PATIENCE_S):
        call = channel.unary_stream(GENERATE, self.messages.Request.SerializeToString,
                                    self.messages.Response.FromString)
        return call(request, metadata=self.metadata, timeout=timeout)

    def channel(self):
        return grpc.insecure_channel(self.grpc, LOCAL)


def grpc_outcome(error):
    if error.code() in REFUSED:
        return "refused"
    if error.code() in LEFT:
        return "left"
    raise error


# sluice.v1 -----------------------------------------------------------------------------------------

def grpc_finished(guest):
    """A connection with three requests, one after the other."""
    with guest.channel() as channel:
        return {finish(guest, channel) for _ in range(3)}.pop()


def grpc_regular(guest):
    return finish(guest, guest.regulars.channel)


def finish(guest, channel):
    count = guest.random.choice((1, 1, 2))
    try:
        answer = list(guest.open_stream(channel, guest.request(n=count)))
    except grpc.RpcError as error:
        return grpc_outcome(error)
    got = sum(len(message.token_ids) for message in answer)
    assert got == count * guest.max_tokens, (got, count, guest.max_tokens)
    return "ok"


def grpc_cancelled(guest):
    with guest.channel() as channel:
        call = guest.open_stream(channel, guest.long_request())
        try:
            for _ in range(guest.random.randrange(6)):
                next(call)
            call.cancel()
            for _ in call:
                pass
        except grpc.RpcError as error:
            return grpc_outcome(error)
    return "left"


def grpc_deadline(guest):
    with guest.channel() as channel:
        try:
            for _ in guest.open_stream(channel, guest.long_request(),
                                       timeout=guest.random.uniform(0.001, 0.3)):
                pass
        except grpc.RpcError as error:
            return grpc_outcome(error)
    raise AssertionError("5000 tokens came within the deadline")


def grpc_refused(guest):
    """Wrong in one way or another, or without the right key."""
    field, metadata = guest.random.choice((
        ({"top_p": 7}, guest.metadata), ({"n": 99}, guest.metadata), ({"model": "other"}, guest.metadata),
        ({"stop": ["x" * 9999]}, guest.metadata), ({}, [("authorization", "Bearer wrong")])))
    guest.metadata = metadata
    request = guest.request(**{k: v for k, v in field.items() if k != "model"})
    request.model = field.get("model", request.model)
    with guest.channel() as channel:
        try:
            list(guest.open_stream(channel, request))
        except grpc.RpcError as error:
            expected = {"INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED"}
            assert error.code().name in expected, error
            return "ok"
    raise AssertionError(f"{field} was not refused")


def raw_call(guest, window_bytes):
    request = guest.long_request()
    return raw_clients.grpc_call(guest.grpc, GENERATE, guest.key, request.SerializeToString(),
                                 window_bytes)


def grpc_slow(guest):
    """Allows the server some bytes now and then, then goes."""
    with raw_clients.connection(guest.grpc, raw_clients.SMALL_BUFFER_BYTES) as made:
        made.sendall(raw_call(guest, 256))
        for _ in range(SLOW_READS):
            time.sleep(SLOW_PAUSE_S)
            if not raw_clients.sip(made, 512):
                break
            made.sendall(raw_clients.more_window(256))
    return "left"


def grpc_vanished(guest):
    with raw_clients.connection(guest.grpc) as made:
        made.sendall(raw_call(guest, 65535)[:guest.random.choice((30, 200, 10**6))])
        time.sleep(guest.random.uniform(0, 0.1))
        raw_clients.reset(made)
    return "left"


# KServe --------------------------------------------------------------------------------------------

def infer_request(guest, **parameters):
    message = service_pb2.ModelInferRequest(model_name=guest.model)
    values = {"max_tokens": guest.max_tokens, **parameters}
    for name, value in values.items():
        kind = "bool_param" if isinstance(value, bool) else "int64_param"
        setattr(message.parameters[name], kind, value)
    message.parameters["ignore_eos"].bool_param = True
    prompt = message.inputs.add(name="input_ids", datatype="INT64", shape=[len(guest.prompt)])
    prompt.contents.int64_contents.extend(guest.prompt)
    message.outputs.add(name="output_ids")
    return message


def kserve_infer(guest):
    with guest.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=PATIENCE_S).ready
        try:
            answer = stub.ModelInfer(infer_request(guest), metadata=guest.metadata, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return grpc_outcome(error)
        assert answer.outputs[0].shape[-1] == guest.max_tokens, answer.outputs[0].shape
    return "ok"


def kserve_stream(guest):
    """Several requests on one stream; every other time the client leaves after a few answers."""
    requests = []
    for _ in range(3):
        guest.draw()
        requests.append(infer_request(guest, stream=True))
    with guest.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelStreamInfer(iter(requests), metadata=guest.metadata, timeout=PATIENCE_S)
        leaves_after = guest.random.choice((5, 10**9))
        try:
            for count, answer in enumerate(call):
                refused = answer.error_message
                assert not refused or "queue" in refused, refused
                if count == leaves_after:
                    call.cancel()
        except grpc.RpcError as error:
            return grpc_outcome(error)
    return "ok"


# OpenAI's HTTP -------------------------------------------------------------------------------------

def post(guest, made, path, body):
    """The answer's status and bytes, over a connection that may be used before and after."""
    made.request("POST", path, json.dumps(body), {"Content-Type": "application/json",
                                                  "Authorization": f"Bearer {guest.key}"})
    answer = made.getresponse()
    return answer.status, answer.read()


def http_finished(guest):
    """A connection with three requests, one after the other."""
    made = http.client.HTTPConnection(guest.http, timeout=PATIENCE_S)
    outcomes = {complete(guest, made) for _ in range(3)}
    made.close()
    return outcomes.pop()


def http_regular(guest):
    with guest.regulars.turn:
        return complete(guest, guest.regulars.http)


def complete(guest, made):
    """A completion, whole or as events."""
    is_stream = guest.random.random() < 0.5
    status, text = post(guest, made, "/v1/completions",
                        guest.body(stream=is_stream, return_token_ids=True))
    if status == 429:
        return "refused"
    assert status == 200, (status, text)
    if is_stream:
        assert text.endswith(b"data: [DONE]\n\n"), text[-200:]
    else:
        assert len(json.loads(text)["choices"][0]["token_ids"]) == guest.max_tokens
    return "ok"


def http_small(guest):
    """Everything that needs no step, each over a new connection."""
    for path in ("/v1/models", "/status", "/health", "/version", "/"):
        request = urllib.request.Request(f"http://{guest.http}{path}",
                                         headers={"Authorization": f"Bearer {guest.key}"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            answer.read()
    made = http.client.HTTPConnection(guest.http, timeout=PATIENCE_S)
    prompt = "Once upon a time " * guest.random.choice((1, 20, 6000))  # the last has 100 kB
    status, text = post(guest, made, "/tokenize", {"model": "llama-tiny", "prompt": prompt})
    assert status == 200, (status, text)
    made.close()
    return "ok"


def http_refused(guest):
    wrong = guest.random.choice((
        {"top_p": 7}, {"temprature": 1}, {"model": "other"}, {"prompt": [10**9]}, {"n": 99},
        {"best_of": 3}))
    made = http.client.HTTPConnection(guest.http, timeout=PATIENCE_S)
    status, text = post(guest, made, "/v1/completions", guest.body(**wrong))
    assert status in (400, 404, 501), (status, text)
    made.request("POST", "/v1/completions", b'{"prompt": [', {"Content-Type": "application/json"})
    answer = made.getresponse()
    assert answer.status in (400, 401), answer.status
    made.close()
    return "ok"


def http_slow(guest):
    with raw_clients.connection(guest.http, raw_clients.SMALL_BUFFER_BYTES) as made:
        made.sendall(raw_clients.http_request(guest.http, "/v1/completions", guest.key,
                                              guest.long_body()))
        for _ in range(SLOW_READS):
            time.sleep(SLOW_PAUSE_S)
            if not raw_clients.sip(made, 512):
                break
    return "left"


def http_vanished(guest):
    """In the middle of its request, before the answer, or in the middle of that."""
    with raw_clients.connection(guest.http) as made:
        text = raw_clients.http_request(guest.http, "/v1/completions", guest.key, guest.long_body())
        made.sendall(text[:guest.random.choice((20, len(text) - 5, len(text), len(text)))])
        time.sleep(guest.random.uniform(0, 0.2))
        if guest.random.random() < 0.5:
            raw_clients.reset(made)
    return "left"


# Operators -----------------------------------------------------------------------------------------

def scrape(guest):
    for path in ("/metrics", "/health/ready", "/health/live"):
        with urllib.request.urlopen(f"http://{guest.admin}{path}", timeout=PATIENCE_S) as answer:
            assert answer.read()
    try:
        urllib.request.urlopen(f"http://{guest.admin}/nothing", timeout=PATIENCE_S).close()
    except urllib.error.HTTPError as error:
        error.close()
    return "ok"


VISITS = [grpc_finished, grpc_regular, grpc_cancelled, grpc_deadline, grpc_refused, grpc_slow,
          grpc_vanished, kserve_infer, kserve_stream, http_finished, http_regular, http_small,
          http_refused, http_slow, http_vanished, scrape]
