#pragma once

#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "inference/grpc_predict_v2.pb.h"
#include "server/grpc/loop_call.h"
#include "sluice/service.h"

namespace sluice::server {

class KserveService;

// One ModelStreamInfer call: any number of requests, answered side by side, one message in flight
// at a time and the requests' turns in a circle.
//
// A request's output waits in its PendingOutput and joins; the service hears of tokens once their
// write is done, so a client that does not read pauses its requests. At most kMaxRequests are open
// at a time, then the next one is not read. What fails ends its own request with an error message;
// the stream goes on. A stream ends when its client has half-closed and has all answers; when there
// was no request for ServiceLimits::max_request_age; when the server drains and nothing is open;
// and when all its requests have ended and the client takes nothing for one to two stall times.
//
// Threads: as LoopCall's; the service's delivery thread calls the requests' functions.
// Life: as LoopCall's; each open request holds the stream too.
class KserveStream final : public LoopCall {
 public:
  static constexpr size_t kMaxRequests = 64;

  // Asks gRPC for the next call and makes a stream of it. Threads: any.
  static void take_call(std::shared_ptr<CallLoop> loop, KserveService& methods);

  // Ends the stream with UNAVAILABLE as soon as no request is open. Threads: any.
  void drain();

 private:
  class Request;
  struct StreamRpc final : Rpc {
    grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer> stream{&context};
  };
  struct Due {
    std::shared_ptr<Request> request;
    inference::ModelStreamInferResponse message;
    bool is_last = false;  // of its request
    int32_t num_tokens = 0;
  };

  KserveStream(std::shared_ptr<CallLoop> loop, KserveService& methods)
      : LoopCall(std::move(loop), std::make_unique<StreamRpc>()), methods_(methods) {}

  StreamRpc& rpc() const { return static_cast<StreamRpc&>(*rpc_); }

  void on_call() override;
  void advance() override;
  void cancel_requests() override;
  void on_time() override;
  void submit() override;
  Result<void> try_submit(const std::shared_ptr<Request>& request);

  // Loop's thread.
  void on_read(bool ok);
  void on_written(bool ok);
  void read_next();
  std::optional<Result<void>> due_end();  // nothing while the stream goes on
  std::optional<Due> take_due();
  void write(Due due);
  void finish(const Result<void>& end);

  KserveService& methods_;
  Event<KserveStream> read_event_{*this, &KserveStream::on_read};
  Event<KserveStream> write_event_{*this, &KserveStream::on_written};

  // Loop's thread only, but for what the requests say is guarded.
  std::deque<std::shared_ptr<Request>> open_;  // whose turn is next: first
  std::shared_ptr<Request> submitting_;        // read last; submit() takes it
  std::optional<Due> writing_;                 // in flight
  bool is_reading_ = false;
  bool has_half_closed_ = false;
  std::chrono::steady_clock::time_point last_progress_ = std::chrono::steady_clock::now();

  bool is_draining_ = false;  // under mutex_
};

}  // namespace sluice::server
