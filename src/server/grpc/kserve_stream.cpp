#include "server/grpc/kserve_stream.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "server/call_handle.h"
#include "server/grpc/caller.h"
#include "server/grpc/kserve_submit.h"
#include "server/grpc/status.h"
#include "server/grpc/wire.h"
#include "server/pending_output.h"

namespace sluice::server {

using std::chrono::steady_clock;

// One open request of a stream. Everything but `handle` is guarded by the stream's lock.
class KserveStream::Request final : public GenerateObserver {
 public:
  Request(std::shared_ptr<KserveStream> stream, std::string id)
      : id(std::move(id)), stream_(std::move(stream)) {}

  void on_chunk(GenerateChunk chunk) override {
    const auto num_tokens = static_cast<int32_t>(chunk.token_ids.size());
    bool is_whole = false;
    {
      const std::scoped_lock lock(stream_->mutex_);
      if (stream_->is_cancelled_ || stream_->is_finished_) return;
      is_whole = !is_streamed;
      if (is_whole) {
        answer->add(std::move(chunk));
      } else {
        output.push(std::move(chunk));
      }
    }
    if (is_whole) {
      handle.delivered(num_tokens);  // its answer is bounded by max_tokens and waits for nobody
    } else {
      stream_->advance();
    }
  }

  void on_end(Result<GenerateSummary> end) override {
    handle.release();
    {
      const std::scoped_lock lock(stream_->mutex_);
      output.end(std::move(end));
    }
    stream_->advance();
  }

  CallHandle handle;
  const std::string id;
  bool is_streamed = false;
  std::optional<KserveAnswer> answer;
  PendingOutput output{1};

 private:
  const std::shared_ptr<KserveStream> stream_;
};

std::shared_ptr<KserveStream> KserveStream::start(grpc::CallbackServerContext* context,
                                                  Service& service, const ApiKeys* keys) {
  std::shared_ptr<KserveStream> stream(new KserveStream(context, service, keys));
  Result<Client> client = client_of(*context, keys);
  {
    const std::scoped_lock lock(stream->mutex_);
    stream->self_ = stream;
    stream->is_finished_ = !client;
  }
  if (!client) {
    stream->Finish(to_status(client.error()));
    return stream;
  }
  stream->watch();
  stream->StartRead(&stream->incoming_);
  return stream;
}

void KserveStream::drain() {
  {
    const std::scoped_lock lock(mutex_);
    is_draining_ = true;
  }
  advance();
}

void KserveStream::OnReadDone(bool ok) {
  if (!ok) {
    {
      const std::scoped_lock lock(mutex_);
      has_half_closed_ = true;
    }
    advance();
    return;
  }
  const grpc::ByteBuffer bytes = std::exchange(incoming_, grpc::ByteBuffer());
  submit(bytes);
  read_next();
}

void KserveStream::submit(const grpc::ByteBuffer& bytes) {
  inference::ModelInferRequest message;
  auto parsed = parse_message(bytes, message);
  const auto request = std::make_shared<Request>(shared_from_this(), message.id());
  // Each request anew: a key that is taken away while its stream lasts starts nothing any more.
  Result<Client> client = client_of(*context_, keys_);
  if (parsed && !client) parsed = std::unexpected(std::move(client.error()));
  auto prepared = parsed ? prepare_kserve_call(message, *context_, client->name, service_)
                         : Result<KserveSubmission>(std::unexpected(std::move(parsed.error())));
  {
    const std::scoped_lock lock(mutex_);
    if (is_cancelled_ || is_finished_) return;
    last_progress_ = steady_clock::now();
    open_.push_back(request);
    if (prepared) {
      request->is_streamed = prepared->call.stream;
      request->answer.emplace(std::move(prepared->answer));
      request->output = PendingOutput(prepared->call.request.n.value_or(1));
    }
  }
  if (!prepared) {
    request->on_end(std::unexpected(std::move(prepared.error())));
    return;
  }
  auto call = submit_kserve_call(prepared->call, service_, request);
  if (!call) {
    request->on_end(std::unexpected(std::move(call.error())));
    return;
  }
  request->handle.set(*std::move(call));
}

// The next request, unless kMaxRequests are open or nothing may be read any more.
void KserveStream::read_next() {
  {
    const std::scoped_lock lock(mutex_);
    if (is_finished_ || is_cancelled_) return;
    is_read_held_ = open_.size() >= kMaxRequests;
    if (is_read_held_) return;
  }
  StartRead(&incoming_);
}

// In turns: whose message is taken goes to the end of the circle.
std::optional<KserveStream::Due> KserveStream::take_due() {
  for (size_t i = 0; i < open_.size(); ++i) {
    const std::shared_ptr<Request> request = std::move(open_.front());
    open_.pop_front();
    auto next = request->output.take();
    if (!next) {
      open_.push_back(request);
      continue;
    }
    Due due{request, {}, !*next || (*next)->summary};
    if (!*next) {
      const Error& error = next->error();
      due.message.set_error_message(to_string(error.code) + (": " + error.message));
      due.message.mutable_infer_response()->set_id(request->id);
      (*due.message.mutable_infer_response()->mutable_parameters())["triton_final_response"]
          .set_bool_param(true);
    } else {
      PendingOutput::Message& message = **next;
      const GenerateSummary* summary = message.summary ? &*message.summary : nullptr;
      tokens_in_flight_ = static_cast<int32_t>(message.chunk.token_ids.size());
      *due.message.mutable_infer_response() =
          request->is_streamed ? request->answer->piece(std::move(message.chunk), summary)
                               : request->answer->whole(*summary);
    }
    // Until its last message is written a request stays open, also for the limit's sake.
    open_.push_back(request);
    return due;
  }
  return std::nullopt;
}

std::optional<grpc::Status> KserveStream::end_status() {
  if (is_cancelled_) return to_status(cancel_error(*context_));
  if (!open_.empty()) return std::nullopt;
  if (has_half_closed_) return grpc::Status::OK;
  if (is_draining_) return to_status({ErrorCode::kUnavailable, "server shuts down"});
  return std::nullopt;
}

void KserveStream::advance() {
  std::unique_lock lock(mutex_);
  if (writing_ || is_finished_) return;
  if (const std::optional<grpc::Status> status = end_status()) {
    is_finished_ = true;
    lock.unlock();
    Finish(*status);
    return;
  }
  std::optional<Due> due = take_due();
  if (!due) return;
  message_ = serialize_message(due->message);
  writing_ = std::move(due->request);
  is_last_write_ = due->is_last;
  last_progress_ = steady_clock::now();
  lock.unlock();
  // Until this write is done no other thread writes or finishes, so the reactor is alive here.
  StartWrite(&message_);
}

void KserveStream::OnWriteDone(bool ok) {
  std::shared_ptr<Request> request;
  int32_t num_tokens = 0;
  bool may_read = false;
  {
    const std::scoped_lock lock(mutex_);
    request = std::exchange(writing_, nullptr);
    num_tokens = std::exchange(tokens_in_flight_, 0);
    last_progress_ = steady_clock::now();
    if (is_last_write_) std::erase(open_, request);
    may_read = is_read_held_ && open_.size() < kMaxRequests;
    if (may_read) is_read_held_ = false;
  }
  if (!ok) {
    abandon();
    return;
  }
  request->handle.delivered(num_tokens);
  if (may_read) read_next();
  advance();
}

void KserveStream::OnCancel() {
  abandon();
}

// The client is gone: nothing more is sent, and its requests end before their next step.
void KserveStream::abandon() {
  std::deque<std::shared_ptr<Request>> open;
  {
    const std::scoped_lock lock(mutex_);
    is_cancelled_ = true;
    open.swap(open_);
  }
  for (const auto& request : open) request->handle.cancel();
  advance();
}

void KserveStream::OnDone() {
  // What goes, goes after the lock: self may be all that holds this object.
  std::shared_ptr<KserveStream> self;
  std::deque<std::shared_ptr<Request>> open;
  std::optional<grpc::Alarm> alarm;
  const std::scoped_lock lock(mutex_);
  is_done_ = true;
  self = std::exchange(self_, nullptr);
  open.swap(open_);
  alarm = std::exchange(alarm_, std::nullopt);
  message_.Clear();
}

// Looks every stall time whether the stream still gets on.
void KserveStream::watch() {
  const std::scoped_lock lock(mutex_);
  if (is_done_) return;
  alarm_.emplace();
  alarm_->Set(std::chrono::system_clock::now() +
                  std::chrono::duration_cast<std::chrono::system_clock::duration>(
                      service_.limits().stall_time),
              [weak = weak_from_this()](bool is_expired) {
                const std::shared_ptr<KserveStream> stream = weak.lock();
                if (!is_expired || !stream) return;
                stream->look_after_time();
                stream->watch();
              });
}

void KserveStream::look_after_time() {
  std::unique_lock lock(mutex_);
  if (is_done_ || is_finished_) return;
  const auto time = steady_clock::now() - last_progress_;
  const ServiceLimits& limits = service_.limits();
  if (open_.empty() && !writing_ && time >= limits.max_request_age) {
    is_finished_ = true;
    lock.unlock();
    Finish(to_status({ErrorCode::kDeadlineExceeded, "no request came for too long"}));
    return;
  }
  // While a request runs, the service watches whether its tokens are taken.
  const bool all_ended =
      std::ranges::all_of(open_, [](const auto& request) { return request->output.has_ended(); });
  // Under the lock, because OnDone takes it before the context goes. OnCancel and OnWriteDone never
  // run inside TryCancel: gRPC calls reactors from its own threads.
  if (writing_ && all_ended && time >= limits.stall_time) context_->TryCancel();
}

}  // namespace sluice::server
