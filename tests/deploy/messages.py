"""Message types of protoc's descriptor sets."""
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def load_messages(path, *names):
    """The classes of the messages `names` in the descriptor set at `path`."""
    files = descriptor_pb2.FileDescriptorSet()
    with open(path, "rb") as schema:
        files.ParseFromString(schema.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in names]
