#include "server/grpc/generate_stream.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "server/grpc/caller.h"
#include "server/grpc/convert.h"
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

void GenerateStream::take_call(std::shared_ptr<CallLoop> loop, GenerationService& methods) {
  grpc::ServerCompletionQueue* const queue = loop->queue();
  const std::shared_ptr<GenerateStream> stream(new GenerateStream(std::move(loop), methods));
  WriterRpc& rpc = stream->rpc();
  methods.RequestGenerate(&rpc.context, &rpc.request, &rpc.writer, queue, queue,
                          stream->wait_for_call());
}

void GenerateStream::on_call() {
  take_call(loop_, methods_);
  begin_submit(rpc_->request.Length());
}

void GenerateStream::submit() {
  const Result<void> submitted = try_submit();
  if (submitted) return;
  const std::scoped_lock lock(mutex_);
  refusal_ = submitted.error();
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
  Result<std::shared_ptr<GenerateCall>> call = loop_->service().generate(
      std::move(request), std::static_pointer_cast<GenerateStream>(shared_from_this()));
  if (!call) return std::unexpected(std::move(call.error()));
  call_.set(*std::move(call));
  return {};
}

void GenerateStream::on_chunk(GenerateChunk chunk) {
  {
    const std::scoped_lock lock(mutex_);
    if (is_cancelled_) return;
    output_.push(std::move(chunk));
    if (!needs_wake()) return;
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
}

void GenerateStream::advance() {
  std::optional<Error> error;
  std::optional<Result<PendingOutput::Message>> next;
  {
    const std::scoped_lock lock(mutex_);
    // Once the request has ended, nobody but this watches a client that does not take the rest.
    if (output_.has_ended() && !has_timer()) {
      const std::chrono::nanoseconds time = loop_->service().limits().stall_time;
      set_timer(output_.has_failed() ? std::min(time, kFailedStreamTime) : time);
    }
    // What submit() still reads must stay, and its headers come first.
    if (is_writing_ || is_submitting_) return;
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
  add_headers();
  if (next.summary) {
    is_finished_ = true;
    rpc().writer.WriteAndFinish(rpc_->message, grpc::WriteOptions(), grpc::Status::OK,
                                finish_event_.due());
  } else {
    is_writing_ = true;
    rpc().writer.Write(rpc_->message, write_event_.due());
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
  is_finished_ = true;
  {
    const std::scoped_lock lock(mutex_);
    output_.clear();
  }
  rpc().writer.Finish(loop_->failed().end(error), finish_event_.due());
}

void GenerateStream::on_written(bool ok) {
  is_writing_ = false;
  const int32_t num_tokens = std::exchange(tokens_in_flight_, 0);
  if (!ok) {
    abandon();
  } else if (num_tokens > 0) {
    call_.delivered(num_tokens);
  }
  resume();
}

void GenerateStream::cancel_requests() {
  {
    const std::scoped_lock lock(mutex_);
    output_.clear();
  }
  call_.cancel();
}

}  // namespace sluice::server
