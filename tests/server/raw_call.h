#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/impl/codegen/client_unary_call.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/sync_stream.h>

#include <memory>
#include <string>

#include "tests/server/loopback.h"

namespace sluice::server {

// Calls a unary method, or one that streams its answer, with any bytes in place of its message.
inline grpc::Status call_raw_path(Loopback& loopback, const std::string& path,
                                  const std::string& bytes, bool streams_answer = false,
                                  const std::string& key = "") {
  grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ClientContext context;
  if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
  grpc::ByteBuffer response;
  if (!streams_answer) {
    const grpc::internal::RpcMethod method(path.c_str(), grpc::internal::RpcMethod::NORMAL_RPC);
    return grpc::internal::BlockingUnaryCall<grpc::ByteBuffer, grpc::ByteBuffer>(
        loopback.channel().get(), method, &context, request, &response);
  }
  const grpc::internal::RpcMethod method(path.c_str(), grpc::internal::RpcMethod::SERVER_STREAMING);
  const std::unique_ptr<grpc::ClientReader<grpc::ByteBuffer>> reader(
      grpc::internal::ClientReaderFactory<grpc::ByteBuffer>::Create(loopback.channel().get(),
                                                                    method, &context, request));
  while (reader->Read(&response)) {
  }
  return reader->Finish();
}

// The same for a method of sluice.v1.Generation.
inline grpc::Status call_raw(Loopback& loopback, const std::string& method,
                             const std::string& bytes) {
  return call_raw_path(loopback, "/sluice.v1.Generation/" + method, bytes, method == "Generate");
}

// A length-delimited field: a number below 2048, at most 127 bytes.
inline std::string string_field(int number, const std::string& value) {
  const int tag = number << 3 | 2;
  std::string bytes;
  if (tag < 128) {
    bytes += static_cast<char>(tag);
  } else {
    bytes += {static_cast<char>(tag | 128), static_cast<char>(tag >> 7)};
  }
  bytes += static_cast<char>(value.size());
  return bytes + value;
}

}  // namespace sluice::server
