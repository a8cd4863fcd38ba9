#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <atomic>
#include <optional>
#include <utility>
#include <vector>

#include "base/in_flight.h"
#include "server/grpc/client_channel.h"
#include "server/grpc/convert.h"
#include "server/grpc/generation_client.h"
#include "server/grpc/status.h"
#include "server/stream_client.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice::server {
namespace {

// One call; gRPC calls its functions and it deletes itself in OnDone.
class StreamReader final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  StreamReader(v1::Generation::Stub& stub, const GenerateRequest& request,
               const std::string& authorization, std::shared_ptr<StreamListener> listener,
               base::InFlight& in_flight)
      : request_(to_proto(request)), listener_(std::move(listener)), in_flight_(in_flight) {
    in_flight_.begin();
    if (!authorization.empty()) context_.AddMetadata("authorization", authorization);
    stub.async()->Generate(&context_, &request_, this);
    StartRead(&message_);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (message_.has_usage()) completion_tokens_ = message_.usage().completion_tokens();
    if (message_.token_ids_size() > 0) listener_->on_tokens(message_.token_ids_size());
    StartRead(&message_);
  }
  void OnDone(const grpc::Status& status) override {
    if (!status.ok()) {
      listener_->on_end(std::unexpected(from_status(status)));
    } else if (!completion_tokens_) {
      listener_->on_end(fail(ErrorCode::kInternal, "the stream ended without its usage"));
    } else {
      listener_->on_end(*completion_tokens_);
    }
    base::InFlight& in_flight = in_flight_;
    delete this;
    in_flight.end();
  }

 private:
  grpc::ClientContext context_;
  const v1::GenerateRequest request_;
  v1::GenerateResponse message_;
  std::optional<int64_t> completion_tokens_;
  const std::shared_ptr<StreamListener> listener_;
  base::InFlight& in_flight_;
};

class GrpcStreamClient final : public StreamClient {
 public:
  GrpcStreamClient(std::vector<std::unique_ptr<v1::Generation::Stub>> stubs,
                   const std::string& api_key)
      : stubs_(std::move(stubs)), authorization_(bearer(api_key)) {}
  ~GrpcStreamClient() override { in_flight_.wait_for_none(); }

  void generate(const GenerateRequest& request, std::shared_ptr<StreamListener> listener) override {
    v1::Generation::Stub& stub = *stubs_[next_++ % stubs_.size()];
    new StreamReader(stub, request, authorization_, std::move(listener), in_flight_);
  }

 private:
  const std::vector<std::unique_ptr<v1::Generation::Stub>> stubs_;
  const std::string authorization_;
  std::atomic<size_t> next_{0};
  base::InFlight in_flight_;
};

}  // namespace

std::unique_ptr<StreamClient> make_grpc_stream_client(const std::string& target,
                                                      const ClientOptions& options,
                                                      int32_t num_connections) {
  std::vector<std::unique_ptr<v1::Generation::Stub>> stubs;
  for (int32_t i = 0; i < num_connections; ++i) {
    stubs.push_back(v1::Generation::NewStub(make_channel(target, options, i)));
  }
  return std::make_unique<GrpcStreamClient>(std::move(stubs), options.api_key);
}

}  // namespace sluice::server
