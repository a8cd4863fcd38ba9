#include "engine/delivery.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "base/utf8.h"

namespace sluice::engine {

Delivery::Delivery(const std::vector<ServedModel>& models, LiveRequests& live,
                   EngineMetrics& metrics)
    : models_(models), live_(live), metrics_(metrics) {
  for (size_t i = 0; i < models.size(); ++i) tallies_.emplace_back(metrics.model(i));
}

void Delivery::publish(std::vector<OutputEvent>& events) {
  {
    const std::lock_guard lock(mutex_);
    if (is_closed_) return events.clear();
    if (pending_.empty()) {
      pending_.swap(events);
    } else {
      std::move(events.begin(), events.end(), std::back_inserter(pending_));
      events.clear();
    }
  }
  published_.notify_one();
}

void Delivery::close() {
  const std::lock_guard lock(mutex_);
  is_closed_ = true;
}

void Delivery::end(const std::vector<std::shared_ptr<LiveRequest>>& requests, const Error& error,
                   base::TimePoint now) {
  std::vector<OutputEvent> ends;
  for (const std::shared_ptr<LiveRequest>& request : requests) {
    for (int32_t index = 0; index < request->checked.n; ++index) {
      ends.push_back({request.get(), index, now, StreamEnd{error, FinishReason::kError, {}, 0}});
    }
  }
  deliver(ends);
}

bool Delivery::deliver_pending() {
  {
    const std::lock_guard lock(mutex_);
    current_.swap(pending_);
  }
  if (current_.empty()) return false;
  deliver(current_);
  current_.clear();
  return true;
}

void Delivery::run() {
  for (bool is_stopping = false; !is_stopping;) {
    {
      std::unique_lock lock(mutex_);
      published_.wait(lock, [&] { return !pending_.empty() || is_stopping_; });
      is_stopping = is_stopping_;
    }
    while (deliver_pending()) {
    }
  }
}

void Delivery::stop() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  published_.notify_one();
}

void Delivery::deliver(std::vector<OutputEvent>& events) {
  touched_.clear();
  for (OutputEvent& event : events) handle(event);
  for (TokenTally& tally : tallies_) tally.flush();
  for (LiveRequest* request : touched_) {
    request->delivery.is_touched = false;
    flush(*request);
  }
}

void Delivery::handle(OutputEvent& event) {
  LiveRequest& request = *event.request;
  DeliveryState& state = request.delivery;
  if (!std::exchange(state.is_touched, true)) touched_.push_back(&request);
  DeliveryStream& stream = state.streams[static_cast<size_t>(event.index)];
  if (std::holds_alternative<TokenOutput>(event.what)) {
    handle_token(request, stream, event);
  } else if (auto* score = std::get_if<PromptScoreOutput>(&event.what)) {
    state.prompt_scores.push_back(std::move(score->score));
  } else {
    handle_end(request, stream, event);
  }
}

void Delivery::handle_token(LiveRequest& request, DeliveryStream& stream, OutputEvent& event) {
  auto& [drawn, reason] = std::get<TokenOutput>(event.what);
  if (stream.is_closed) return;
  observe_token(request, stream, event.time);
  DeliveryState& state = request.delivery;
  state.first_token = std::min(state.first_token, event.time);
  state.last_token = std::max(state.last_token, event.time);
  GenerateChunk& chunk = stream.chunk;
  stream.has_chunk = true;
  ++stream.completion_tokens;
  chunk.token_ids.push_back(drawn.token_id);
  if (request.checked.wants_logprobs()) chunk.logprobs.push_back(describe(request, drawn));
  if (reason == FinishReason::kStop) {  // the token that ends a text is no part of it
    chunk.stop_reason = std::to_string(drawn.token_id);
    close_stream(stream, FinishReason::kStop);
    return;
  }
  if (stream.text) {
    chunk.text += stream.text->push(drawn.token_id);
    if (stream.text->match()) {
      chunk.stop_reason = stream.text->matched_string();
      close_stream(stream, FinishReason::kStop);
      request.signals[static_cast<size_t>(event.index)]->request_stop(
          sequence::StopSignal::kTextStop);
      return;
    }
  }
  if (reason) close_stream(stream, *reason);
}

void Delivery::close_stream(DeliveryStream& stream, FinishReason reason) {
  stream.has_chunk = true;
  stream.is_closed = true;
  stream.chunk.finish_reason = reason;
  stream.reason = reason;
  if (stream.text) stream.chunk.text += stream.text->finish();
}

void Delivery::handle_end(LiveRequest& request, DeliveryStream& stream, const OutputEvent& event) {
  const StreamEnd& end = std::get<StreamEnd>(event.what);
  DeliveryState& state = request.delivery;
  if (std::exchange(stream.has_ended, true)) return;
  ++state.num_ended;
  state.ended = std::max(state.ended, event.time);
  if (end.first_scheduled) {
    state.first_scheduled = std::min(state.first_scheduled, *end.first_scheduled);
  }
  if (&stream == &state.streams.front()) state.cached_tokens = end.cached_tokens;
  // A stream that was complete before the engine heard of a cancellation ended by itself.
  if (stream.is_closed) return;
  close_stream(stream, end.reason);
  if (!end.error || state.error) return;
  state.error = end.error;
  state.reason = end.reason;
  for (const auto& signals : request.signals) {
    signals->request_stop(sequence::StopSignal::kCancelled);
  }
}

void Delivery::flush(LiveRequest& request) {
  DeliveryState& state = request.delivery;
  for (int32_t index = 0; index < request.checked.n; ++index) flush_stream(request, index);
  if (state.num_ended == request.checked.n) end_request(request);
}

void Delivery::flush_stream(LiveRequest& request, int32_t index) {
  DeliveryState& state = request.delivery;
  DeliveryStream& stream = state.streams[static_cast<size_t>(index)];
  if (!stream.has_chunk) return;
  if (stream.is_prompt_due) {
    const bool has_scores = request.checked.sampling.num_prompt_logprobs < 0 ||
                            state.prompt_scores.size() + 1 == request.checked.prompt.size();
    if (!has_scores && !state.error) return;  // completion 0 still computes them
    stream.is_prompt_due = false;
    if (has_scores) send_prompt_chunk(request, index);
  }
  stream.has_chunk = false;
  // Of a request that fails before its first token nothing is said but the error: a chunk would
  // begin a stream for it, and the front ends could not answer with its status any more.
  if (state.error && state.first_token == base::TimePoint::max()) return;
  stream.chunk.index = index;
  request.untaken.add(index, static_cast<int32_t>(stream.chunk.token_ids.size()), true);
  request.observer->on_chunk(std::exchange(stream.chunk, {}));
}

void Delivery::send_prompt_chunk(LiveRequest& request, int32_t index) {
  const CheckedRequest& checked = request.checked;
  GenerateChunk chunk;
  chunk.index = index;
  chunk.is_prompt = true;
  chunk.text = checked.prompt_text;
  chunk.token_ids = checked.prompt;
  if (checked.sampling.num_prompt_logprobs >= 0) {
    const int32_t first = checked.prompt.front();
    chunk.logprobs.push_back({{first, 0.0f, token_text(request, first)}, {}});
    for (const sampling::RowResult& score : request.delivery.prompt_scores) {
      chunk.logprobs.push_back(describe(request, score));
    }
  }
  request.untaken.add(index, static_cast<int32_t>(chunk.token_ids.size()), false);
  request.observer->on_chunk(std::move(chunk));
}

void Delivery::end_request(LiveRequest& request) {
  observe_end(request);
  const std::shared_ptr<LiveRequest> ended = live_.take(request);
  // The engine and the caller may keep the request for a while, but its observer goes here and now.
  std::shared_ptr<GenerateObserver> observer = std::move(ended->observer);
  DeliveryState& state = ended->delivery;
  if (!state.error && state.first_token == base::TimePoint::max()) {
    state.error = Error{ErrorCode::kDeadlineExceeded, "no token came within total_ms"};
    state.reason = FinishReason::kDeadline;
  }
  observer->on_usage(usage_of(*ended), reason_of(state));
  if (const std::optional<Error>& error = state.error; error) {
    observer->on_end(std::unexpected(*error));
  } else {
    observer->on_end(summarize(*ended));
  }
  observer.reset();
  live_.settle();
}

void Delivery::observe_token(const LiveRequest& request, DeliveryStream& stream,
                             base::TimePoint time) {
  const size_t model_idx = request.checked.model_idx;
  TokenTally& tally = tallies_[model_idx];
  tally.add_token();
  if (stream.completion_tokens > 0) {
    tally.add_gap(time - stream.last_token);
  } else if (request.delivery.first_token == base::TimePoint::max()) {
    metrics_.model(model_idx).time_to_first_token.observe(
        base::in_seconds(time - request.checked.arrival));
  }
  stream.last_token = time;
}

void Delivery::observe_end(const LiveRequest& request) {
  const DeliveryState& state = request.delivery;
  const base::TimePoint arrival = request.checked.arrival;
  ModelMetrics& metrics = metrics_.model(request.checked.model_idx);
  metrics.finish(reason_of(state));
  // What never ran may end with the time of a step before it came.
  metrics.request_duration.observe(std::max(0.0, base::in_seconds(state.ended - arrival)));
  if (state.first_scheduled != base::TimePoint::max()) {
    metrics.queue_duration.observe(base::in_seconds(state.first_scheduled - arrival));
  }
}

FinishReason Delivery::reason_of(const DeliveryState& state) {
  return state.error ? state.reason : state.streams.front().reason;
}

GenerateSummary Delivery::summarize(const LiveRequest& request) const {
  GenerateSummary summary;
  summary.request_id = request.checked.id;
  summary.seed = request.checked.sampling.seed;
  summary.profile = model_of(request).info.profile;
  summary.digest = model_of(request).info.digest;
  summary.usage = usage_of(request);
  return summary;
}

// What never came to pass took until the end.
Usage Delivery::usage_of(const LiveRequest& request) {
  const DeliveryState& state = request.delivery;
  Usage usage;
  usage.prompt_tokens = static_cast<int32_t>(request.checked.prompt.size());
  usage.cached_tokens = state.cached_tokens;
  for (const DeliveryStream& stream : state.streams) {
    usage.completion_tokens += stream.completion_tokens;
  }
  // Who is ended before it runs may end with the time of a step before it came.
  const base::TimePoint ended = std::max(state.ended, request.checked.arrival);
  const base::TimePoint first_token = std::min(state.first_token, ended);
  const base::TimePoint scheduled = std::min(state.first_scheduled, first_token);
  usage.queue_time = scheduled - request.checked.arrival;
  usage.prefill_time = first_token - scheduled;
  usage.decode_time = std::max(state.last_token, first_token) - first_token;
  return usage;
}

PositionLogprobs Delivery::describe(const LiveRequest& request,
                                    const sampling::RowResult& result) const {
  PositionLogprobs position;
  position.token = {result.token_id, result.logprob, token_text(request, result.token_id)};
  position.top.reserve(result.top.size());
  for (const sampling::TokenScore& score : result.top) {
    position.top.push_back({score.token_id, score.logprob, token_text(request, score.token_id)});
  }
  return position;
}

std::string Delivery::token_text(const LiveRequest& request, int32_t token_id) const {
  const tokenizer::Tokenizer* tokenizer = model_of(request).tokenizer.get();
  std::string text;
  if (tokenizer != nullptr) {
    append_repaired_utf8(tokenizer->token_bytes(token_id, /*at_start=*/false), /*is_end=*/true,
                         tokenizer->utf8_repair(), &text);
  }
  return text;
}

}  // namespace sluice::engine
