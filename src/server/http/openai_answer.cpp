#include "server/http/openai_answer.h"

#include <algorithm>
#include <utility>

#include "server/http/http_error.h"

namespace sluice::server {
namespace {

// Of one prompt. What is beyond this the validator refuses, so nothing may be sized by it.
size_t num_choices(const GenerateRequest& request, const ServiceLimits& limits) {
  return static_cast<size_t>(std::clamp<int64_t>(request.n.value_or(1), 1, limits.max_n));
}

}  // namespace

// Tells the answer which of its prompts an output belongs to.
class OpenAiAnswer::PromptObserver final : public GenerateObserver {
 public:
  PromptObserver(std::shared_ptr<OpenAiAnswer> answer, size_t prompt_idx)
      : answer_(std::move(answer)), prompt_idx_(prompt_idx) {}
  void on_chunk(GenerateChunk chunk) override { answer_->on_chunk(prompt_idx_, std::move(chunk)); }
  void on_end(Result<GenerateSummary> end) override {
    answer_->on_end(prompt_idx_, std::move(end));
  }

 private:
  const std::shared_ptr<OpenAiAnswer> answer_;
  const size_t prompt_idx_;
};

OpenAiAnswer::OpenAiAnswer(const ServiceLimits& limits, std::shared_ptr<HttpExchange> exchange,
                           OpenAiCall call, OpenAiHeading heading, std::vector<HttpHeader> headers)
    : call_(std::move(call)),
      choices_per_prompt_(num_choices(call_.common, limits)),
      format_(std::move(heading), choices_per_prompt_ * call_.num_prompts()),
      headers_(std::move(headers)),
      calls_(call_.num_prompts()),
      exchange_(std::move(exchange)),
      tokens_in_flight_(call_.num_prompts(), 0) {
  if (!call_.stream) choices_.resize(choices_per_prompt_ * call_.num_prompts());
}

void OpenAiAnswer::start(Service& service, std::shared_ptr<HttpExchange> exchange, OpenAiCall call,
                         OpenAiHeading heading, std::vector<HttpHeader> headers) {
  const std::shared_ptr<OpenAiAnswer> answer(new OpenAiAnswer(service.limits(), std::move(exchange),
                                                              std::move(call), std::move(heading),
                                                              std::move(headers)));
  answer->submit(service);
}

void OpenAiAnswer::submit(Service& service) {
  exchange_->on_gone([weak = weak_from_this()] {
    if (const auto answer = weak.lock()) answer->cancel_all();
  });
  for (size_t i = 0; i < calls_.size(); ++i) {
    auto call = service.generate(call_.take_request(i),
                                 std::make_shared<PromptObserver>(shared_from_this(), i));
    if (!call) {
      respond_error(call.error());
      return;
    }
    calls_[i].set(*std::move(call));
    const std::scoped_lock lock(mutex_);
    if (is_over_) return;  // the rest is not wanted any more
  }
  std::unique_lock lock(mutex_);
  is_submitted_ = true;
  const bool has_output = !queue_.empty() || num_ended_ > 0;
  const bool is_complete = num_ended_ == calls_.size();
  lock.unlock();
  if (call_.stream && has_output) begin_stream();
  if (!call_.stream && is_complete) finish_whole();
}

void OpenAiAnswer::on_chunk(size_t prompt_idx, GenerateChunk chunk) {
  const auto num_tokens = static_cast<int32_t>(chunk.token_ids.size());
  {
    const std::scoped_lock lock(mutex_);
    if (is_over_) return;
    chunk.index += static_cast<int32_t>(prompt_idx * choices_per_prompt_);
    if (call_.stream) {
      queue_.push(std::move(chunk));
      if (!is_submitted_) return;
    } else {
      choices_[static_cast<size_t>(chunk.index)].add(std::move(chunk));
    }
  }
  if (call_.stream) return begin_stream();
  // A whole answer is bounded by its max_tokens, so nothing waits for the client.
  calls_[prompt_idx].delivered(num_tokens);
}

void OpenAiAnswer::on_end(size_t prompt_idx, Result<GenerateSummary> end) {
  calls_[prompt_idx].release();
  std::unique_lock lock(mutex_);
  ++num_ended_;
  if (is_over_) return;
  if (!end) {
    if (!error_) error_ = std::move(end.error());
  } else {
    Usage& sum = summary_.usage;
    sum.prompt_tokens += end->usage.prompt_tokens;
    sum.cached_tokens += end->usage.cached_tokens;
    sum.completion_tokens += end->usage.completion_tokens;
    if (prompt_idx == 0) {
      summary_.seed = end->seed;
      summary_.profile = std::move(end->profile);
      summary_.digest = std::move(end->digest);
    }
  }
  const bool has_begun = has_begun_;
  const bool is_complete = num_ended_ == calls_.size();
  const bool is_submitted = is_submitted_;
  const std::optional<Error> error = error_;
  lock.unlock();
  if (error && !has_begun) {
    respond_error(*error);
  } else if (call_.stream && is_submitted) {
    begin_stream();
  } else if (!call_.stream && is_complete && is_submitted) {
    finish_whole();
  }
}

// Or goes on with it.
void OpenAiAnswer::begin_stream() {
  std::shared_ptr<HttpExchange> exchange;
  bool is_first = false;
  {
    const std::scoped_lock lock(mutex_);
    if (is_over_) return;
    if (error_ && !has_begun_) return;  // on_end() is about to answer with the error's own status
    is_first = !std::exchange(has_begun_, true);
    exchange = exchange_;
  }
  if (!is_first) return exchange->wake();
  HttpResponse head;
  head.content_type = "text/event-stream";
  head.headers = headers_;
  // Proxies such as nginx would collect the events otherwise.
  head.headers.push_back({"Cache-Control", "no-cache"});
  head.headers.push_back({"X-Accel-Buffering", "no"});
  exchange->stream(std::move(head), shared_from_this());
}

bool OpenAiAnswer::take(std::string& out) {
  std::optional<Error> error;
  bool is_complete = false;
  {
    const std::scoped_lock lock(mutex_);
    std::swap(taken_, queue_);
    error = error_;
    is_complete = num_ended_ == calls_.size();
  }
  while (!taken_.empty()) {
    const GenerateChunk chunk = taken_.pop();
    tokens_in_flight_[static_cast<size_t>(chunk.index) / choices_per_prompt_] +=
        static_cast<int32_t>(chunk.token_ids.size());
    format_.append_event(chunk, out);
  }
  if (error) {
    OpenAiFormat::append_error(*error, out);
    cancel_all();
    return false;
  }
  if (!is_complete) return true;
  format_.append_end(summary_, out);
  cancel_all();  // nothing runs any more; lets go of the exchange
  return false;
}

void OpenAiAnswer::written() {
  for (size_t i = 0; i < tokens_in_flight_.size(); ++i) {
    const int32_t num_tokens = std::exchange(tokens_in_flight_[i], 0);
    if (num_tokens > 0) calls_[i].delivered(num_tokens);
  }
}

void OpenAiAnswer::finish_whole() {
  std::shared_ptr<HttpExchange> exchange;
  {
    const std::scoped_lock lock(mutex_);
    if (std::exchange(is_over_, true)) return;
    exchange = std::exchange(exchange_, nullptr);
  }
  HttpResponse response;
  response.headers = headers_;
  response.body = format_.whole(std::move(choices_), summary_);
  exchange->respond(std::move(response));
}

// The client is gone, or has its answer: what still runs ends before the next step.
void OpenAiAnswer::cancel_all() {
  std::shared_ptr<HttpExchange> exchange;  // let go outside the lock
  {
    const std::scoped_lock lock(mutex_);
    is_over_ = true;
    exchange = std::exchange(exchange_, nullptr);
  }
  for (CallHandle& call : calls_) call.cancel();
}

void OpenAiAnswer::respond_error(const Error& error) {
  std::shared_ptr<HttpExchange> exchange;
  {
    const std::scoped_lock lock(mutex_);
    if (is_over_) return;
    exchange = exchange_;
  }
  const FieldError named = name_field(call_, error);
  HttpResponse response = error_response(named.error, named.param);
  response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
  cancel_all();
  exchange->respond(std::move(response));
}

}  // namespace sluice::server
