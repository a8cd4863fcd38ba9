#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "server/grpc/failed_calls.h"
#include "server/grpc/wire.h"

namespace sluice::server {

// Answers a unary call whose messages are raw: `handle` turns a Request& into a Result of the
// answer's message. An answer that is known without the message comes as `before`: an error ends
// the call before its bytes are looked at.
template <typename Request, typename Before, typename Handle>
grpc::ServerUnaryReactor* answer_unary(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer& request, grpc::ByteBuffer& response,
                                       FailedCalls& failed, const Before& before, Handle handle) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (!before) {
    reactor->Finish(failed.end(before.error()));
    return reactor;
  }
  Request parsed_request;
  if (auto parsed = parse_message(request, parsed_request); !parsed) {
    reactor->Finish(failed.end(parsed.error()));
    return reactor;
  }
  const auto message = handle(parsed_request);
  if (message) response = serialize_message(*message);
  reactor->Finish(message ? grpc::Status::OK : failed.end(message.error()));
  return reactor;
}

}  // namespace sluice::server
