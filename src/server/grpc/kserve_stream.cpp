#include "server/grpc/kserve_stream.h"

#include <algorithm>
#include <string>
#include <utility>

#include "server/call_handle.h"
#include "server/grpc/caller.h"
#include "server/grpc/kserve_service.h"
#include "server/grpc/kserve_submit.h"
#include "server/grpc/wire.h"
#include "server/pending_output.h"

namespace sluice::server {

using std::chrono::steady_clock;

// One open request of a stream. Everything but `handle` is guarded by the stream's lock.
class KserveStream::Request final : public GenerateObserver {
 public:
  explicit Request(std::shared_ptr<KserveStream> stream) : stream_(std::move(stream)) {}

  void on_chunk(GenerateChunk chunk) override {
    const auto num_tokens = static_cast<int32_t>(chunk.token_ids.size());
    {
      const std::scoped_lock lock(stream_->mutex_);
      if (stream_->is_cancelled_) return;
      if (is_streamed) {
        output.push(std::move(chunk));
        if (!stream_->needs_wake()) return;
      } else {
        answer->add(std::move(chunk));
      }
    }
    if (is_streamed) {
      stream_->loop_->wake(stream_);
    } else {
      handle.delivered(num_tokens);  // its answer is bounded by max_tokens and waits for nobody
    }
  }

  void on_end(Result<GenerateSummary> end) override {
    handle.release();
    {
      const std::scoped_lock lock(stream_->mutex_);
      output.end(std::move(end));
    }
    stream_->wake();
  }

  CallHandle handle;
  std::string id;
  bool is_streamed = false;  // fixed before the first chunk
  std::optional<KserveAnswer> answer;
  PendingOutput output{1};

 private:
  const std::shared_ptr<KserveStream> stream_;
};

void KserveStream::take_call(std::shared_ptr<CallLoop> loop, KserveService& methods) {
  grpc::ServerCompletionQueue* const queue = loop->queue();
  const std::shared_ptr<KserveStream> stream(new KserveStream(std::move(loop), methods));
  StreamRpc& rpc = stream->rpc();
  methods.RequestModelStreamInfer(&rpc.context, &rpc.stream, queue, queue, stream->wait_for_call());
}

void KserveStream::on_call() {
  take_call(loop_, methods_);
  if (const Result<Client> client = client_of(rpc_->context, loop_->keys()); !client) {
    return finish(std::unexpected(client.error()));
  }
  methods_.add_stream(std::static_pointer_cast<KserveStream>(shared_from_this()));
  last_progress_ = steady_clock::now();
  set_timer(loop_->service().limits().stall_time);
  advance();
}

void KserveStream::drain() {
  {
    const std::scoped_lock lock(mutex_);
    is_draining_ = true;
  }
  wake();
}

void KserveStream::advance() {
  if (const std::optional<Result<void>> end = due_end()) return finish(*end);
  read_next();
  if (writing_) return;
  if (std::optional<Due> due = take_due()) write(*std::move(due));
}

std::optional<Result<void>> KserveStream::due_end() {
  const std::scoped_lock lock(mutex_);
  if (writing_ || is_submitting_) return std::nullopt;  // which use what the end takes away
  if (is_cancelled_) return std::unexpected(cancel_error(rpc_->context));
  if (!open_.empty()) return std::nullopt;
  if (has_half_closed_) return Result<void>();
  if (is_draining_) return fail(ErrorCode::kUnavailable, "server shuts down");
  return std::nullopt;
}

void KserveStream::finish(const Result<void>& end) {
  is_finished_ = true;
  rpc().stream.Finish(end ? grpc::Status::OK : loop_->failed().end(end.error()),
                      finish_event_.due());
}

// The next request, unless kMaxRequests are open or the last one is still looked at.
void KserveStream::read_next() {
  if (is_reading_ || has_half_closed_ || is_cancelled_ || open_.size() >= kMaxRequests) return;
  {
    const std::scoped_lock lock(mutex_);
    if (is_submitting_) return;
  }
  is_reading_ = true;
  rpc().stream.Read(&rpc_->request, read_event_.due());
}

void KserveStream::on_read(bool ok) {
  is_reading_ = false;
  if (is_finished_ || is_cancelled_) return;
  if (!ok) {
    has_half_closed_ = true;
    return advance();
  }
  last_progress_ = steady_clock::now();
  submitting_ =
      std::make_shared<Request>(std::static_pointer_cast<KserveStream>(shared_from_this()));
  open_.push_back(submitting_);
  begin_submit(rpc_->request.Length());
}

void KserveStream::submit() {
  const std::shared_ptr<Request> request = std::exchange(submitting_, nullptr);
  if (auto submitted = try_submit(request); !submitted) {
    request->on_end(std::unexpected(std::move(submitted.error())));
  }
}

Result<void> KserveStream::try_submit(const std::shared_ptr<Request>& request) {
  inference::ModelInferRequest message;
  auto parsed = parse_message(rpc_->request, message);
  rpc_->request.Clear();
  {
    const std::scoped_lock lock(mutex_);
    request->id = message.id();
  }
  if (!parsed) return std::unexpected(std::move(parsed.error()));
  // Each request anew: a key that is taken away while its stream lasts starts nothing any more.
  const Result<Client> client = client_of(rpc_->context, loop_->keys());
  if (!client) return std::unexpected(client.error());
  auto prepared = prepare_kserve_call(message, rpc_->context, client->name, loop_->service());
  if (!prepared) return std::unexpected(std::move(prepared.error()));
  {
    const std::scoped_lock lock(mutex_);
    request->is_streamed = prepared->call.stream;
    request->answer.emplace(std::move(prepared->answer));
    request->output = PendingOutput(prepared->call.request.n.value_or(1));
  }
  auto call = submit_kserve_call(prepared->call, loop_->service(), request);
  if (!call) return std::unexpected(std::move(call.error()));
  request->handle.set(*std::move(call));
  return {};
}

// In turns: whose message is taken goes to the end of the circle.
std::optional<KserveStream::Due> KserveStream::take_due() {
  const std::scoped_lock lock(mutex_);
  for (size_t i = 0; i < open_.size(); ++i) {
    const std::shared_ptr<Request> request = std::move(open_.front());
    open_.pop_front();
    // Until its last message is written a request stays open, also for the limit's sake.
    open_.push_back(request);
    auto next = request->output.take();
    if (!next) continue;
    Due due{request, {}, !*next || (*next)->summary};
    if (!*next) {
      const Error& error = next->error();
      loop_->failed().count(error);
      due.message.set_error_message(to_string(error.code) + (": " + error.message));
      inference::ModelInferResponse& response = *due.message.mutable_infer_response();
      response.set_id(request->id);
      auto& parameters = *response.mutable_parameters();
      parameters["triton_final_response"].set_bool_param(true);
      if (error.retry_after) {
        parameters["retry_after_ms"].set_int64_param(retry_time(error)->count());
      }
    } else {
      PendingOutput::Message& message = **next;
      const GenerateSummary* summary = message.summary ? &*message.summary : nullptr;
      due.num_tokens = static_cast<int32_t>(message.chunk.token_ids.size());
      *due.message.mutable_infer_response() =
          request->is_streamed ? request->answer->piece(std::move(message.chunk), summary)
                               : request->answer->whole(*summary);
    }
    return due;
  }
  return std::nullopt;
}

void KserveStream::write(Due due) {
  last_progress_ = steady_clock::now();
  rpc_->message = serialize_message(due.message);
  writing_ = std::move(due);
  rpc().stream.Write(rpc_->message, write_event_.due());
}

void KserveStream::on_written(bool ok) {
  const Due written = *std::exchange(writing_, std::nullopt);
  last_progress_ = steady_clock::now();
  if (written.is_last) std::erase(open_, written.request);
  if (ok) {
    written.request->handle.delivered(written.num_tokens);
  } else {
    abandon();
  }
  resume();
}

void KserveStream::cancel_requests() {
  for (const auto& request : std::exchange(open_, {})) request->handle.cancel();
}

// Looks every stall time whether the stream still gets on.
void KserveStream::on_time() {
  if (is_finished_ || is_cancelled_) return;
  const auto time = steady_clock::now() - last_progress_;
  const ServiceLimits& limits = loop_->service().limits();
  if (open_.empty() && !writing_ && time >= limits.max_request_age) {
    return finish(fail(ErrorCode::kDeadlineExceeded, "no request came for too long"));
  }
  // While a request runs, the service watches whether its tokens are taken.
  const auto all_have_ended = [this] {
    const std::scoped_lock lock(mutex_);
    return std::ranges::all_of(open_, [](const auto& one) { return one->output.has_ended(); });
  };
  if (writing_ && time >= limits.stall_time && all_have_ended()) rpc_->context.TryCancel();
  set_timer(limits.stall_time);
}

}  // namespace sluice::server
