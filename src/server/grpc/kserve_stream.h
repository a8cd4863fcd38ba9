#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "inference/grpc_predict_v2.pb.h"
#include "server/access/api_keys.h"
#include "sluice/service.h"

namespace sluice::server {

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
// Threads: gRPC's and the service's delivery thread; mutex_ orders them. No write, end or request
// is begun under the lock. Life: as GenerateStream's; each open request holds the stream too.
class KserveStream final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                           public std::enable_shared_from_this<KserveStream> {
 public:
  static constexpr size_t kMaxRequests = 64;

  // The stream is gRPC's as soon as this returns; it may have failed for want of a key.
  static std::shared_ptr<KserveStream> start(grpc::CallbackServerContext* context, Service& service,
                                             const ApiKeys* keys);

  // Ends the stream with UNAVAILABLE as soon as no request is open.
  void drain();

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  class Request;
  struct Due {
    std::shared_ptr<Request> request;
    inference::ModelStreamInferResponse message;
    bool is_last = false;  // of its request
  };

  KserveStream(grpc::CallbackServerContext* context, Service& service, const ApiKeys* keys)
      : context_(context), service_(service), keys_(keys) {}

  void submit(const grpc::ByteBuffer& bytes);
  void read_next();
  // Starts the next write or ends the stream, if no write is in flight.
  void advance();
  std::optional<Due> take_due();             // Requires: mutex_ held
  std::optional<grpc::Status> end_status();  // the same; nothing while the stream goes on
  void abandon();
  void watch();
  void look_after_time();

  grpc::CallbackServerContext* const context_;  // valid until OnDone
  Service& service_;
  const ApiKeys* const keys_;
  grpc::ByteBuffer incoming_;  // of the read under way

  std::mutex mutex_;
  std::shared_ptr<KserveStream> self_;         // set by start, cleared by OnDone
  std::deque<std::shared_ptr<Request>> open_;  // whose turn is next: first
  std::shared_ptr<Request> writing_;           // whose message is in flight
  bool is_last_write_ = false;                 // of writing_
  bool is_read_held_ = false;                  // kMaxRequests are open
  bool has_half_closed_ = false;
  bool is_draining_ = false;
  bool is_cancelled_ = false;
  bool is_finished_ = false;
  bool is_done_ = false;
  std::chrono::steady_clock::time_point last_progress_ = std::chrono::steady_clock::now();
  int32_t tokens_in_flight_ = 0;
  grpc::ByteBuffer message_;  // in flight
  std::optional<grpc::Alarm> alarm_;
};

}  // namespace sluice::server
