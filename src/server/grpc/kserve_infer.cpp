#include "server/grpc/kserve_infer.h"

#include <utility>

#include "inference/grpc_predict_v2.pb.h"
#include "server/grpc/caller.h"
#include "server/grpc/kserve_submit.h"
#include "server/grpc/wire.h"

namespace sluice::server {

grpc::ServerUnaryReactor* KserveInfer::start(grpc::CallbackServerContext* context,
                                             const grpc::ByteBuffer& request,
                                             grpc::ByteBuffer* response, Service& service,
                                             const ApiKeys* keys, FailedCalls& failed) {
  std::shared_ptr<KserveInfer> infer(new KserveInfer(context, response, failed));
  {
    const std::scoped_lock lock(infer->mutex_);
    infer->self_ = infer;
  }
  if (const auto submitted = infer->submit(request, service, keys); !submitted) {
    add_retry_time(submitted.error(), *context);
    infer->finish(std::unexpected(submitted.error()));
  }
  return infer.get();  // no callback of the reactor comes before this returns
}

Result<void> KserveInfer::submit(const grpc::ByteBuffer& bytes, Service& service,
                                 const ApiKeys* keys) {
  const Result<Client> client = client_of(*context_, keys);
  if (!client) return std::unexpected(client.error());
  inference::ModelInferRequest message;
  if (auto parsed = parse_message(bytes, message); !parsed) {
    return std::unexpected(std::move(parsed.error()));
  }
  auto prepared = prepare_kserve_call(message, *context_, client->name, service);
  if (!prepared) return std::unexpected(std::move(prepared.error()));
  if (prepared->call.stream) {
    return invalid_argument("stream is true, and ModelInfer has one answer: use ModelStreamInfer");
  }
  {
    const std::scoped_lock lock(mutex_);
    answer_.emplace(std::move(prepared->answer));
  }
  std::string& request_id = prepared->call.request.request_id;
  if (request_id.empty()) request_id = metadata_value(*context_, "x-request-id");
  auto call = submit_kserve_call(prepared->call, service, shared_from_this());
  if (!call) return std::unexpected(std::move(call.error()));
  call_.set(*std::move(call));
  return {};
}

void KserveInfer::on_chunk(GenerateChunk chunk) {
  const auto num_tokens = static_cast<int32_t>(chunk.token_ids.size());
  {
    const std::scoped_lock lock(mutex_);
    if (is_finished_) return;
    answer_->add(std::move(chunk));
  }
  call_.delivered(num_tokens);  // nothing waits for the client
}

void KserveInfer::on_end(Result<GenerateSummary> end) {
  call_.release();
  finish(end);
}

void KserveInfer::finish(const Result<GenerateSummary>& end) {
  {
    const std::scoped_lock lock(mutex_);
    if (std::exchange(is_finished_, true)) return;
    if (end) *response_ = serialize_message(answer_->whole(*end));
  }
  // gRPC keeps the reactor until Finish was called, and nobody calls it twice.
  Finish(end ? grpc::Status::OK : failed_.end(end.error()));
}

void KserveInfer::OnCancel() {
  call_.cancel();
  finish(std::unexpected(cancel_error(*context_)));
}

void KserveInfer::OnDone() {
  call_.release();
  std::shared_ptr<KserveInfer> self;  // goes after the lock
  const std::scoped_lock lock(mutex_);
  self = std::exchange(self_, nullptr);
}

}  // namespace sluice::server
