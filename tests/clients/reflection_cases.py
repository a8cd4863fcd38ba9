"""grpcio-reflection: the schema from the server alone, with a key."""
import unittest

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha import proto_reflection_descriptor_database as reflection

from reference import KEY, PROMPT, SAMPLING, generate, llama, llama_with_keys


class WithKey(grpc.StreamStreamClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Shows a key in every call."""

    def __init__(self, key):
        self._metadata = [("authorization", f"Bearer {key}")]

    def intercept_stream_stream(self, continuation, details, requests):
        return continuation(details._replace(metadata=self._metadata), requests)

    def intercept_unary_stream(self, continuation, details, request):
        return continuation(details._replace(metadata=self._metadata), request)


def connected(server, key):
    return grpc.intercept_channel(grpc.insecure_channel(server.target), WithKey(key))


class ReflectionTest(unittest.TestCase):
    def test_a_client_without_proto_files_generates(self):
        with llama_with_keys() as server, connected(server, KEY) as channel:
            database = reflection.ProtoReflectionDescriptorDatabase(channel)
            names = database.get_services()
            self.assertIn("sluice.v1.Generation", names)
            pool = descriptor_pool.DescriptorPool(database)
            for name in names:
                self.assertGreater(len(pool.FindServiceByName(name).methods), 0, name)
            method = pool.FindMethodByName("sluice.v1.Generation.Generate")
            request_type = message_factory.GetMessageClass(method.input_type)
            response_type = message_factory.GetMessageClass(method.output_type)
            call = channel.unary_stream("/sluice.v1.Generation/Generate",
                                        request_serializer=request_type.SerializeToString,
                                        response_deserializer=response_type.FromString)
            messages = list(call(request_type(prompt=PROMPT, **SAMPLING)))
        with llama() as server:
            expected = generate(server, prompt=PROMPT, **SAMPLING)["text"]
        self.assertEqual("".join(message.text for message in messages), expected)

    def test_needs_a_key(self):
        with llama_with_keys() as server, connected(server, KEY + "x") as channel:
            with self.assertRaises(grpc.RpcError) as raised:
                reflection.ProtoReflectionDescriptorDatabase(channel).get_services()
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAUTHENTICATED)
