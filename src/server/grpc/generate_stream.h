#pragma once

#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "server/call_handle.h"
#include "server/grpc/generation_service.h"
#include "server/grpc/loop_call.h"
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
// Threads: as LoopCall's; the service's delivery thread calls the observer's functions.
class GenerateStream final : public GenerateObserver, public LoopCall {
 public:
  // Asks gRPC for the next call and makes a stream of it. Threads: any.
  static void take_call(std::shared_ptr<CallLoop> loop, GenerationService& methods);

  void on_chunk(GenerateChunk chunk) override;
  void on_end(Result<GenerateSummary> end) override;

 private:
  struct WriterRpc final : Rpc {
    grpc::ServerAsyncWriter<grpc::ByteBuffer> writer{&context};
  };

  GenerateStream(std::shared_ptr<CallLoop> loop, GenerationService& methods)
      : LoopCall(std::move(loop), std::make_unique<WriterRpc>()), methods_(methods) {}

  WriterRpc& rpc() const { return static_cast<WriterRpc&>(*rpc_); }

  void on_call() override;
  void advance() override;
  void cancel_requests() override;
  void on_time() override { rpc().context.TryCancel(); }
  // Asks for the caller's key, parses the request and hands it to the service.
  void submit() override;
  Result<void> try_submit();

  // Loop's thread.
  void on_written(bool ok);
  void write(PendingOutput::Message next);
  void add_headers();
  void finish(const Error& error);

  GenerationService& methods_;
  Event<GenerateStream> write_event_{*this, &GenerateStream::on_written};
  CallHandle call_;

  // Loop's thread only, but for what submit() sets before the first message.
  std::string profile_, digest_;  // what the headers tell; empty afterwards
  int32_t tokens_in_flight_ = 0;
  bool is_writing_ = false;

  // Under mutex_.
  PendingOutput output_{1};
  std::optional<Error> refusal_;
};

}  // namespace sluice::server
