#include "server/grpc/generate_stream.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "server/grpc/caller.h"
#include "server/grpc/convert.h"
#include "server/grpc/status.h"
#include "server/grpc/wire.h"
#include "server/header_value.h"
#include "server/model_lookup.h"
#include "sluice/v1/generation.pb.h"

namespace sluice::server {
namespace {

using std::chrono::steady_clock;

// A request that has failed holds its stream no longer than this.
constexpr std::chrono::nanoseconds kFailedStreamTime = std::chrono::seconds(1);

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerateStream::start(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer& request, Service& service,
    const ApiKeys* keys) {
  std::shared_ptr<GenerateStream> stream(new GenerateStream(context, service.limits().stall_time));
  {
    std::scoped_lock lock(stream->mutex_);
    stream->self_ = stream;
  }
  Result<std::shared_ptr<GenerateCall>> call = stream->submit(request, service, keys);
  if (call) {
    std::scoped_lock lock(stream->mutex_);
    stream->call_ = *std::move(call);
  } else {
    add_retry_time(call.error(), *context);
    stream->finish(call.error());
  }
  return stream.get();  // no callback of the reactor comes before this returns
}

Result<std::shared_ptr<GenerateCall>> GenerateStream::submit(const grpc::ByteBuffer& bytes,
                                                             Service& service,
                                                             const ApiKeys* keys) {
  Result<Client> client = client_of(*context_, keys);
  if (!client) return std::unexpected(std::move(client.error()));
  v1::GenerateRequest message;
  if (auto parsed = parse_message(bytes, message); !parsed) {
    return std::unexpected(std::move(parsed.error()));
  }
  Result<GenerateRequest> converted = from_proto(std::move(message));
  if (!converted) return std::unexpected(std::move(converted.error()));
  GenerateRequest request = *std::move(converted);
  request.client = std::move(client->name);
  request.deadline = deadline_of(*context_);
  if (request.request_id.empty()) request.request_id = metadata_value(*context_, "x-request-id");
  request.traceparent = metadata_value(*context_, "traceparent");
  if (request.deadline && *request.deadline <= steady_clock::now()) {
    return fail(ErrorCode::kDeadlineExceeded, "the deadline had passed before the request came");
  }
  const std::vector<ModelInfo> models = service.models();
  if (const ModelInfo* model = find_model(models, request.model)) {
    profile_ = model->profile;
    digest_ = model->digest;
  }
  output_ = PendingOutput(request.n.value_or(1));
  return service.generate(std::move(request), shared_from_this());
}

void GenerateStream::on_chunk(GenerateChunk chunk) {
  {
    std::scoped_lock lock(mutex_);
    if (is_cancelled_ || is_finished_) return;
    output_.push(std::move(chunk));
  }
  advance();
}

void GenerateStream::on_end(Result<GenerateSummary> end) {
  std::shared_ptr<GenerateCall> call;  // let go outside the lock
  {
    std::scoped_lock lock(mutex_);
    call = std::exchange(call_, nullptr);
    output_.end(std::move(end));
  }
  advance();
  limit_remaining_time();
}

void GenerateStream::advance() {
  std::unique_lock lock(mutex_);
  if (is_write_in_flight_ || is_finished_) return;
  if (is_cancelled_) {
    lock.unlock();
    finish(cancel_error(*context_));
    return;
  }
  std::optional<Result<PendingOutput::Message>> next = output_.take();
  if (!next) return;
  if (!*next) {
    lock.unlock();
    finish(next->error());
    return;
  }
  tokens_in_flight_ = static_cast<int32_t>((*next)->chunk.token_ids.size());
  v1::GenerateResponse message = to_proto(std::move((*next)->chunk));
  const bool is_last = (*next)->summary.has_value();
  if (is_last) {
    const GenerateSummary& summary = *(*next)->summary;
    add_summary(summary, message);
    context_->AddTrailingMetadata("sluice-request-id", header_value(summary.request_id));
    context_->AddTrailingMetadata("sluice-seed", std::to_string(summary.seed));
    context_->AddTrailingMetadata("sluice-profile", header_value(summary.profile));
    context_->AddTrailingMetadata("sluice-digest", header_value(summary.digest));
  }
  message_ = serialize_message(message);
  is_write_in_flight_ = true;
  is_finished_ = is_last;
  lock.unlock();
  // Until this write is done no other thread writes or finishes, so the reactor is alive here.
  add_headers();
  if (is_last) {
    StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
  } else {
    StartWrite(&message_);
  }
}

// A refused call has no headers of ours: with them gRPC takes a call for begun and does not try it
// elsewhere, whatever the client's retry policy says.
void GenerateStream::add_headers() {
  if (profile_.empty()) return;
  context_->AddInitialMetadata("sluice-profile", header_value(std::exchange(profile_, {})));
  context_->AddInitialMetadata("sluice-digest", header_value(std::exchange(digest_, {})));
}

void GenerateStream::finish(const Error& error) {
  {
    std::scoped_lock lock(mutex_);
    if (is_finished_) return;
    is_finished_ = true;
    output_.clear();
  }
  Finish(to_status(error));
}

void GenerateStream::OnWriteDone(bool ok) {
  std::shared_ptr<GenerateCall> call;
  int32_t num_tokens = 0;
  {
    std::scoped_lock lock(mutex_);
    is_write_in_flight_ = false;
    num_tokens = std::exchange(tokens_in_flight_, 0);
    call = call_;
  }
  if (!ok) {
    abandon();
    return;
  }
  if (call && num_tokens > 0) call->delivered(num_tokens);
  advance();
}

void GenerateStream::OnCancel() {
  abandon();
}

// The client is gone: nothing more is sent, and the request ends before its next step.
void GenerateStream::abandon() {
  std::shared_ptr<GenerateCall> call;
  {
    std::scoped_lock lock(mutex_);
    is_cancelled_ = true;
    output_.clear();
    call = std::exchange(call_, nullptr);
  }
  if (call) call->cancel();
  advance();
}

void GenerateStream::OnDone() {
  // What goes, goes after the lock: self may be all that holds this object.
  std::shared_ptr<GenerateStream> self;
  std::shared_ptr<GenerateCall> call;
  std::optional<grpc::Alarm> alarm;
  {
    std::scoped_lock lock(mutex_);
    is_done_ = true;
    self = std::exchange(self_, nullptr);
    call = std::exchange(call_, nullptr);
    alarm = std::exchange(alarm_, std::nullopt);
    message_.Clear();
  }
}

// Once the request has ended, nobody but this watches a client that does not take the rest.
void GenerateStream::limit_remaining_time() {
  std::scoped_lock lock(mutex_);
  if (is_done_) return;
  const bool has_failed = output_.has_failed();
  const auto time = has_failed ? std::min(stall_time_, kFailedStreamTime) : stall_time_;
  const auto expire = [weak = weak_from_this()](bool is_expired) {
    const std::shared_ptr<GenerateStream> stream = weak.lock();
    if (!is_expired || !stream) return;
    std::scoped_lock expire_lock(stream->mutex_);
    // Under the lock, because OnDone takes it before the context goes. OnCancel and OnWriteDone
    // never run inside TryCancel: gRPC calls reactors from its own threads.
    if (!stream->is_done_) stream->context_->TryCancel();
  };
  alarm_.emplace();
  alarm_->Set(std::chrono::system_clock::now() +
                  std::chrono::duration_cast<std::chrono::system_clock::duration>(time),
              expire);
}

}  // namespace sluice::server
