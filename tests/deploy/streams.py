#!/usr/bin/env python3
"""Streams of a gRPC client that others wrote (grpcio), in a closed loop.

streams.py TARGET SCHEMA CONNECTIONS STREAMS MAX_TOKENS

Keeps STREAMS streams over CONNECTIONS connections open until stdin ends, then lets them finish. A
line of JSON on stdout for each stream that ended; times are CLOCK_MONOTONIC. SCHEMA is protoc's
descriptor set. A call that is refused before its first message is tried again by gRPC itself, as
docs/operations.md recommends: the policy is in the channel's service config.
"""
import hashlib
import json
import sys
import threading
import time

import grpc

from messages import load_messages

RETRIES = json.dumps({"methodConfig": [{"name": [{"service": "sluice.v1.Generation"}], "retryPolicy": {
    "maxAttempts": 5, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"]}}]})


class Client:
    def __init__(self, target, schema, num_connections, max_tokens):
        request, self._response = load_messages(schema, "sluice.v1.GenerateRequest",
                                                "sluice.v1.GenerateResponse")
        self._request = request(prompt="The moon", max_tokens=max_tokens, seed=1, ignore_eos=True)
        options = [("grpc.service_config", RETRIES), ("grpc.use_local_subchannel_pool", 1)]
        self._calls = [self._method(grpc.insecure_channel(target, options))
                       for _ in range(num_connections)]
        self._print = threading.Lock()
        self.is_over = threading.Event()

    def _method(self, channel):
        return channel.unary_stream("/sluice.v1.Generation/Generate",
                                    request_serializer=lambda message: message.SerializeToString(),
                                    response_deserializer=self._response.FromString)

    def run(self, index):
        while not self.is_over.is_set():
            outcome = self._stream(self._calls[index % len(self._calls)])
            with self._print:
                print(json.dumps(outcome), flush=True)
            if outcome["code"] != "OK":
                time.sleep(0.05)

    def _stream(self, call):
        began, tokens, code, details = time.monotonic(), [], "OK", ""
        try:
            for message in call(self._request, timeout=60):
                tokens.extend(message.token_ids)
        except grpc.RpcError as error:
            code, details = error.code().name, error.details()
        return {"code": code, "details": details, "tokens": len(tokens), "began": began,
                "ended": time.monotonic(),
                "digest": hashlib.sha256(repr(tokens).encode()).hexdigest()}


def main():
    target, schema = sys.argv[1:3]
    num_connections, num_streams, max_tokens = map(int, sys.argv[3:])
    client = Client(target, schema, num_connections, max_tokens)
    workers = [threading.Thread(target=client.run, args=(i,)) for i in range(num_streams)]
    for worker in workers:
        worker.start()
    sys.stdin.read()
    client.is_over.set()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
