#include "cli/batch.h"

#include <utility>

namespace sluice::cli {

Batch::Batch(Service& service, RequestSource source, std::shared_ptr<EventQueue> queue,
             Options options)
    : service_(service),
      source_(std::move(source)),
      queue_(std::move(queue)),
      options_(std::move(options)) {}

Result<Batch::Outcome> Batch::run(int64_t first_index) {
  first_index_ = first_index;
  Outcome outcome;
  while (true) {
    const Result<void> submitted = submit();
    if (!submitted) return std::unexpected(submitted.error());
    if (!flush(outcome)) break;
    if (slots_.empty() && !pending_ && is_at_end_) {
      outcome.num_failed = num_failed_;
      return outcome;
    }
    if (num_running_ == 0) continue;  // everything was refused at once: go on reading
    std::optional<Event> event = queue_->pop();
    if (!event) break;
    handle(*std::move(event));
  }
  for (const Slot& slot : slots_) {
    if (slot.call) slot.call->cancel();
  }
  outcome.num_failed = num_failed_;
  outcome.interrupted = true;
  return outcome;
}

Result<void> Batch::submit() {
  while (num_running_ < options_.max_running && slots_.size() < options_.max_open) {
    if (!pending_ && !is_at_end_) {
      auto next = source_.next();
      if (!next) return std::unexpected(next.error());
      is_at_end_ = !next->has_value();
      if (*next && (*next)->index >= first_index_) pending_ = **std::move(next);
      continue;
    }
    if (!pending_ || !submit_one(*pending_)) return {};
    pending_.reset();
  }
  return {};
}

bool Batch::submit_one(const IndexedRequest& next) {
  const size_t number = num_flushed_ + slots_.size();
  auto call = service_.generate(next.request, std::make_shared<QueueObserver>(queue_, number));
  if (!call && call.error().code == ErrorCode::kResourceExhausted && num_running_ > 0) return false;
  Slot slot{next.index, Answer(next.request), nullptr, {}};
  if (call) {
    slot.call = *std::move(call);
    ++num_running_;
  } else {
    slot.lines = error_line(next.index, call.error());
    ++num_failed_;
  }
  slots_.push_back(std::move(slot));
  return true;
}

void Batch::handle(Event event) {
  Slot& slot = slots_[event.request - num_flushed_];
  if (const auto* chunk = std::get_if<GenerateChunk>(&event.what)) {
    slot.answer.add(*chunk);
    slot.call->delivered(static_cast<int32_t>(chunk->token_ids.size()));
    return;
  }
  const auto& end = std::get<Result<GenerateSummary>>(event.what);
  if (end) {
    slot.lines = answer_lines(slot.index, slot.answer, *end);
  } else {
    slot.lines = error_line(slot.index, end.error());
    ++num_failed_;
  }
  slot.call.reset();
  --num_running_;
}

bool Batch::flush(Outcome& outcome) {
  while (!slots_.empty() && !slots_.front().lines.empty()) {
    if (!options_.write(slots_.front().lines)) return false;
    ++outcome.num_answered;
    options_.progress(slots_.front().index + 1);
    slots_.pop_front();
    ++num_flushed_;
  }
  return true;
}

}  // namespace sluice::cli
