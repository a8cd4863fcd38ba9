#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "server/call_handle.h"
#include "server/grpc/generate_loop.h"
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
// Threads: the loop's runs what is said to be its own, alone; a worker may submit; the service's
// delivery thread calls the observer's functions. mutex_ guards what they share, and no call into
// gRPC's write path or the service is made under it.
// Life: gRPC uses the object while an event of it is due, and self_ keeps it until then; the
// service uses the observer as long as it likes. What is gRPC's goes with the last event.
class GenerateStream final : public GenerateObserver,
                             public std::enable_shared_from_this<GenerateStream> {
 public:
  // Asks gRPC for a call and makes a stream of it. Loop's thread.
  static void wait_for_call(std::shared_ptr<GenerateLoop> loop);

  // Starts the next write or ends the call, if nothing is in flight. Loop's thread.
  void advance();

  void on_chunk(GenerateChunk chunk) override;
  void on_end(Result<GenerateSummary> end) override;

 private:
  // An operation of gRPC's whose rest is one of our functions.
  class Event final : public GenerateEvent {
   public:
    Event(GenerateStream& stream, void (GenerateStream::*function)(bool))
        : stream_(stream), function_(function) {}
    void complete(bool ok) override { (stream_.*function_)(ok); }

   private:
    GenerateStream& stream_;
    void (GenerateStream::* const function_)(bool);
  };

  // What gRPC has of the call, until its last event.
  struct Rpc {
    grpc::ServerContext context;
    grpc::ByteBuffer request;
    GenerateLoop::Writer writer{&context};
    grpc::ByteBuffer message;  // in flight
  };

  explicit GenerateStream(std::shared_ptr<GenerateLoop> loop)
      : loop_(std::move(loop)), rpc_(std::make_unique<Rpc>()) {}

  // Events, on the loop's thread.
  void on_call(bool ok);
  void on_written(bool ok);
  void on_finished(bool ok);
  void on_done(bool ok);

  // Asks for the caller's key, parses the request and hands it to the service. Loop or worker.
  void submit();
  Result<void> try_submit();
  void wake();

  // Loop's thread.
  void write(PendingOutput::Message next);
  void add_headers();
  void finish(const Error& error);
  void abandon();
  void let_go_if_over();

  void limit_remaining_time();

  const std::shared_ptr<GenerateLoop> loop_;
  Event call_event_{*this, &GenerateStream::on_call};
  Event write_event_{*this, &GenerateStream::on_written};
  Event finish_event_{*this, &GenerateStream::on_finished};
  Event done_event_{*this, &GenerateStream::on_done};
  CallHandle call_;

  // Loop's thread only, but for what submit() reads of rpc_ and sets before the first message.
  std::unique_ptr<Rpc> rpc_;
  std::shared_ptr<GenerateStream> self_;
  std::string profile_, digest_;  // what the headers tell; empty afterwards
  int32_t tokens_in_flight_ = 0;
  bool is_in_flight_ = false;  // a write or the end
  bool is_finished_ = false;   // the end was begun
  bool is_over_ = false;       // gRPC is done with the call

  std::mutex mutex_;
  PendingOutput output_{1};
  std::optional<Error> refusal_;
  bool is_submitting_ = true;
  bool is_woken_ = false;      // waits in the loop's list
  bool is_cancelled_ = false;  // by the client, its deadline or a failed write
  bool is_closed_ = false;     // rpc_ is gone
  std::optional<grpc::Alarm> alarm_;
};

}  // namespace sluice::server
