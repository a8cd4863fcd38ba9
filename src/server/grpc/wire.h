#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include <expected>

#include "sluice/error.h"

namespace sluice::server {

// Reads a request from the bytes gRPC received. Requests are taken raw because gRPC's own parsing
// answers a string that is not UTF-8 with INTERNAL and a log line of protobuf.
// kInvalidArgument: a string field is not UTF-8, named with the byte's position. kInternal: not a
// message of this type, as gRPC itself answers.
std::expected<void, Error> parse_message(const grpc::ByteBuffer& buffer,
                                         google::protobuf::Message& message);

grpc::ByteBuffer serialize_message(const google::protobuf::Message& message);

}  // namespace sluice::server
