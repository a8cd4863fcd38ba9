#include "cli/event_queue.h"

#include <utility>

namespace sluice::cli {

void EventQueue::push(Event event) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  arrived_.notify_one();
}

std::optional<Event> EventQueue::pop() {
  std::unique_lock lock(mutex_);
  arrived_.wait(lock, [this] { return interrupted_ || !events_.empty(); });
  if (std::exchange(interrupted_, false)) return std::nullopt;
  Event event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void EventQueue::interrupt() {
  {
    const std::lock_guard lock(mutex_);
    interrupted_ = true;
  }
  arrived_.notify_one();
}

QueueObserver::QueueObserver(std::shared_ptr<EventQueue> queue, size_t request)
    : queue_(std::move(queue)), request_(request) {}

void QueueObserver::on_chunk(GenerateChunk chunk) {
  queue_->push({request_, std::chrono::steady_clock::now(), std::move(chunk)});
}

void QueueObserver::on_end(Result<GenerateSummary> end) {
  queue_->push({request_, std::chrono::steady_clock::now(), std::move(end)});
}

}  // namespace sluice::cli
