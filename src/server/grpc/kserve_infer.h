#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "server/access/api_keys.h"
#include "server/call_handle.h"
#include "server/grpc/failed_calls.h"
#include "server/grpc/kserve_answer.h"
#include "server/grpc/kserve_request.h"
#include "sluice/service.h"

namespace sluice::server {

// One ModelInfer call: collects the service's output and answers with the whole of it, which the
// request's max_tokens bounds. A call that is cancelled ends its request.
//
// Threads: gRPC's call the reactor's functions, the service's delivery thread the observer's;
// mutex_ orders them.
// Life: gRPC keeps it until OnDone by self_, the service as long as it likes.
class KserveInfer final : public grpc::ServerUnaryReactor,
                          public GenerateObserver,
                          public std::enable_shared_from_this<KserveInfer> {
 public:
  // The result is gRPC's; it may have failed. `response` is valid until OnDone, as `failed` is.
  static grpc::ServerUnaryReactor* start(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer& request,
                                         grpc::ByteBuffer* response, Service& service,
                                         const ApiKeys* keys, FailedCalls& failed);

  void on_chunk(GenerateChunk chunk) override;
  void on_end(Result<GenerateSummary> end) override;

  void OnCancel() override;
  void OnDone() override;

 private:
  KserveInfer(grpc::CallbackServerContext* context, grpc::ByteBuffer* response, FailedCalls& failed)
      : context_(context), response_(response), failed_(failed) {}

  Result<void> submit(const grpc::ByteBuffer& bytes, Service& service, const ApiKeys* keys);
  void finish(const Result<GenerateSummary>& end);

  grpc::CallbackServerContext* const context_;
  grpc::ByteBuffer* const response_;
  FailedCalls& failed_;
  CallHandle call_;

  std::mutex mutex_;
  std::shared_ptr<KserveInfer> self_;  // set by start, cleared by OnDone
  std::optional<KserveAnswer> answer_;
  bool is_finished_ = false;
};

}  // namespace sluice::server
