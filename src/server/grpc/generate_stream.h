#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "server/access/api_keys.h"
#include "server/pending_output.h"
#include "sluice/generation.h"
#include "sluice/service.h"

namespace sluice::server {

// One Generate call: takes the service's output and writes it, one message in flight at a time.
//
// What comes during a write waits in a PendingOutput. The service hears of tokens once their write
// is done, so a client that does not read stops the writes, then the credit, then its own request.
// After the request's end a client has ServiceLimits::stall_time to take the rest.
//
// Threads: gRPC's call the reactor's functions, the service's delivery thread the observer's;
// mutex_ orders them. No call into gRPC's write path or the service is made under the lock.
// Life: gRPC uses the reactor until OnDone, the service the observer as long as it likes. self_
// keeps the object for the first, the shared_ptr given to the service for the second.
class GenerateStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                             public GenerateObserver,
                             public std::enable_shared_from_this<GenerateStream> {
 public:
  // Asks for the caller's key (if `keys` is not null), parses the request and hands it to the
  // service. The result is gRPC's; it may have failed.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* start(grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer& request,
                                                           Service& service, const ApiKeys* keys);

  void on_chunk(GenerateChunk chunk) override;
  void on_end(Result<GenerateSummary> end) override;

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  GenerateStream(grpc::CallbackServerContext* context, std::chrono::nanoseconds stall_time)
      : context_(context), stall_time_(stall_time) {}

  Result<std::shared_ptr<GenerateCall>> submit(const grpc::ByteBuffer& bytes, Service& service,
                                               const ApiKeys* keys);
  // Starts the next write or ends the stream, if no write is in flight.
  void advance();
  void finish(const Error& error);
  // Headers for the first message. Requires: no write was started, none can start meanwhile.
  void add_headers();
  void abandon();
  void limit_remaining_time();

  grpc::CallbackServerContext* const context_;  // valid until OnDone
  const std::chrono::nanoseconds stall_time_;
  std::string profile_, digest_;  // what the headers tell; empty afterwards

  std::mutex mutex_;
  std::shared_ptr<GenerateStream> self_;  // set by start, cleared by OnDone
  std::shared_ptr<GenerateCall> call_;
  PendingOutput output_{1};
  bool is_cancelled_ = false;  // by the client, its deadline or a failed write
  bool is_write_in_flight_ = false;
  bool is_finished_ = false;  // Finish was called
  bool is_done_ = false;      // OnDone was called; context_ is gone
  int32_t tokens_in_flight_ = 0;
  grpc::ByteBuffer message_;  // in flight
  std::optional<grpc::Alarm> alarm_;
};

}  // namespace sluice::server
