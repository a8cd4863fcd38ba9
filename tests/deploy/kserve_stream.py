#!/usr/bin/env python3
"""A KServe stream that is silent between two requests: kserve_stream.py TARGET SCHEMA SECONDS

Prints a line of JSON after the first answer, and one at the stream's end: how many answers came, and its
code. SCHEMA is protoc's descriptor set.
"""
import json
import queue
import sys
import time

import grpc

from messages import load_messages


def make_request(message_type):
    request = message_type(model_name="llama-tiny")
    text = request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    text.contents.bytes_contents.append(b"The moon")
    request.parameters["max_tokens"].int64_param = 4
    return request


def main():
    target, schema, silence_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
    request_type, response_type = load_messages(schema, "inference.ModelInferRequest",
                                                "inference.ModelStreamInferResponse")
    requests, num_answers, code, details = queue.Queue(), 0, "OK", ""
    stream = grpc.insecure_channel(target).stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response_type.FromString)(iter(requests.get, None))
    try:
        for pause_s in (0, silence_s):
            time.sleep(pause_s)
            requests.put(make_request(request_type))
            answer = next(stream)
            if answer.error_message:
                raise RuntimeError(answer.error_message)
            num_answers += 1
            if num_answers == 1:
                print(json.dumps({"answers": 1}), flush=True)
        requests.put(None)
        for _ in stream:
            num_answers += 1
    except grpc.RpcError as error:
        code, details = error.code().name, error.details()
    print(json.dumps({"answers": num_answers, "code": code, "details": details}), flush=True)


if __name__ == "__main__":
    main()
