#include "server/grpc/generate_stream.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

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
// Longer requests are parsed and tokenized on a worker.
constexpr size_t kShortRequestBytes = 16 << 10;

}  // namespace

void GenerateStream::wait_for_call(std::shared_ptr<GenerateLoop> loop) {
  const std::shared_ptr<GenerateStream> stream(new GenerateStream(std::move(loop)));
  stream->self_ = stream;
  Rpc& rpc = *stream->rpc_;
  rpc.context.AsyncNotifyWhenDone(&stream->done_event_);
  stream->loop_->ask_for_call(rpc.context, rpc.request, rpc.writer, stream->call_event_);
}

void GenerateStream::on_call(bool ok) {
  if (!ok) {  // the server shuts down, and nothing else comes of this one
    is_finished_ = is_over_ = true;
    return let_go_if_over();
  }
  loop_->take_next_call();
  if (rpc_->request.Length() <= kShortRequestBytes) return submit();
  loop_->post([self = shared_from_this()] { self->submit(); });
}

void GenerateStream::submit() {
  const Result<void> submitted = try_submit();
  {
    const std::scoped_lock lock(mutex_);
    is_submitting_ = false;
    if (!submitted) refusal_ = submitted.error();
  }
  wake();
}

Result<void> GenerateStream::try_submit() {
  Result<Client> client = client_of(rpc_->context, loop_->keys());
  if (!client) return std::unexpected(std::move(client.error()));
  v1::GenerateRequest message;
  if (auto parsed = parse_message(rpc_->request, message); !parsed) {
    return std::unexpected(std::move(parsed.error()));
  }
  rpc_->request.Clear();
  Result<GenerateRequest> converted = from_proto(std::move(message));
  if (!converted) return std::unexpected(std::move(converted.error()));
  GenerateRequest request = *std::move(converted);
  request.client = std::move(client->name);
  request.deadline = deadline_of(rpc_->context);
  if (request.request_id.empty()) {
    request.request_id = metadata_value(rpc_->context, "x-request-id");
  }
  request.traceparent = metadata_value(rpc_->context, "traceparent");
  if (request.deadline && *request.deadline <= steady_clock::now()) {
    return fail(ErrorCode::kDeadlineExceeded, "the deadline had passed before the request came");
  }
  const std::vector<ModelInfo> models = loop_->service().models();
  if (const ModelInfo* model = find_model(models, request.model)) {
    profile_ = model->profile;
    digest_ = model->digest;
  }
  {
    const std::scoped_lock lock(mutex_);
    output_ = PendingOutput(request.n.value_or(1));
  }
  Result<std::shared_ptr<GenerateCall>> call =
      loop_->service().generate(std::move(request), shared_from_this());
  if (!call) return std::unexpected(std::move(call.error()));
  call_.set(*std::move(call));
  return {};
}

void GenerateStream::on_chunk(GenerateChunk chunk) {
  {
    const std::scoped_lock lock(mutex_);
    if (is_cancelled_ || is_closed_) return;
    output_.push(std::move(chunk));
    if (std::exchange(is_woken_, true)) return;
  }
  loop_->wake(shared_from_this());
}

void GenerateStream::on_end(Result<GenerateSummary> end) {
  call_.release();
  {
    const std::scoped_lock lock(mutex_);
    output_.end(std::move(end));
  }
  wake();
  limit_remaining_time();
}

void GenerateStream::wake() {
  {
    const std::scoped_lock lock(mutex_);
    if (is_closed_ || std::exchange(is_woken_, true)) return;
  }
  loop_->wake(shared_from_this());
}

void GenerateStream::advance() {
  std::optional<Error> error;
  std::optional<Result<PendingOutput::Message>> next;
  {
    const std::scoped_lock lock(mutex_);
    is_woken_ = false;
    // What submit() still reads must stay, and its headers come first.
    if (is_in_flight_ || is_finished_ || is_submitting_) return;
    if (is_cancelled_) {
      error = cancel_error(rpc_->context);
    } else if (refusal_) {
      error = refusal_;
      add_retry_time(*error, rpc_->context);
    } else {
      next = output_.take();
      if (!next) return;
      if (!*next) error = next->error();
    }
  }
  if (error) {
    finish(*error);
  } else {
    write(**std::move(next));
  }
}

void GenerateStream::write(PendingOutput::Message next) {
  grpc::ServerContext& context = rpc_->context;
  tokens_in_flight_ = static_cast<int32_t>(next.chunk.token_ids.size());
  v1::GenerateResponse message = to_proto(std::move(next.chunk));
  if (next.summary) {
    const GenerateSummary& summary = *next.summary;
    add_summary(summary, message);
    context.AddTrailingMetadata("sluice-request-id", header_value(summary.request_id));
    context.AddTrailingMetadata("sluice-seed", std::to_string(summary.seed));
    context.AddTrailingMetadata("sluice-profile", header_value(summary.profile));
    context.AddTrailingMetadata("sluice-digest", header_value(summary.digest));
  }
  rpc_->message = serialize_message(message);
  is_in_flight_ = true;
  add_headers();
  if (next.summary) {
    is_finished_ = true;
    rpc_->writer.WriteAndFinish(rpc_->message, grpc::WriteOptions(), grpc::Status::OK,
                                &finish_event_);
  } else {
    rpc_->writer.Write(rpc_->message, &write_event_);
  }
}

// A refused call has no headers of ours: with them gRPC takes a call for begun and does not try it
// elsewhere, whatever the client's retry policy says.
void GenerateStream::add_headers() {
  if (profile_.empty()) return;
  rpc_->context.AddInitialMetadata("sluice-profile", header_value(std::exchange(profile_, {})));
  rpc_->context.AddInitialMetadata("sluice-digest", header_value(std::exchange(digest_, {})));
}

void GenerateStream::finish(const Error& error) {
  is_finished_ = is_in_flight_ = true;
  {
    const std::scoped_lock lock(mutex_);
    output_.clear();
  }
  rpc_->writer.Finish(to_status(error), &finish_event_);
}

void GenerateStream::on_written(bool ok) {
  is_in_flight_ = false;
  const int32_t num_tokens = std::exchange(tokens_in_flight_, 0);
  if (!ok) {
    abandon();
  } else if (num_tokens > 0) {
    call_.delivered(num_tokens);
  }
  advance();
}

void GenerateStream::on_finished(bool /*ok*/) {
  is_in_flight_ = false;
  let_go_if_over();
}

// Comes once for every call, whoever ended it.
void GenerateStream::on_done(bool /*ok*/) {
  is_over_ = true;
  if (rpc_->context.IsCancelled()) abandon();
  advance();
  let_go_if_over();
}

// The client is gone: nothing more is sent, and the request ends before its next step.
void GenerateStream::abandon() {
  {
    const std::scoped_lock lock(mutex_);
    is_cancelled_ = true;
    output_.clear();
  }
  call_.cancel();
}

void GenerateStream::let_go_if_over() {
  if (!is_over_ || !is_finished_ || is_in_flight_) return;
  // What goes, goes after the lock: self may be all that holds this object.
  const std::shared_ptr<GenerateStream> self = std::move(self_);
  std::unique_ptr<Rpc> rpc;
  std::optional<grpc::Alarm> alarm;
  {
    const std::scoped_lock lock(mutex_);
    is_closed_ = true;
    output_.clear();
    rpc = std::move(rpc_);
    alarm = std::exchange(alarm_, std::nullopt);
  }
}

// Once the request has ended, nobody but this watches a client that does not take the rest.
void GenerateStream::limit_remaining_time() {
  const std::scoped_lock lock(mutex_);
  if (is_closed_) return;
  const std::chrono::nanoseconds stall_time = loop_->service().limits().stall_time;
  const auto time = output_.has_failed() ? std::min(stall_time, kFailedStreamTime) : stall_time;
  const auto expire = [weak = weak_from_this()](bool is_expired) {
    const std::shared_ptr<GenerateStream> stream = weak.lock();
    if (!is_expired || !stream) return;
    const std::scoped_lock expire_lock(stream->mutex_);
    // Under the lock, so that rpc_ does not go meanwhile. gRPC tells of it by events only.
    if (!stream->is_closed_) stream->rpc_->context.TryCancel();
  };
  alarm_.emplace();
  alarm_->Set(std::chrono::system_clock::now() +
                  std::chrono::duration_cast<std::chrono::system_clock::duration>(time),
              expire);
}

}  // namespace sluice::server
