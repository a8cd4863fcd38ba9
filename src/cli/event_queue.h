#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <variant>

#include "sluice/error.h"
#include "sluice/generation.h"
#include "sluice/service.h"

namespace sluice::cli {

// What the service told about one of a command's requests, and when.
struct Event {
  size_t request = 0;  // the command's own number for it
  std::chrono::steady_clock::time_point at;
  std::variant<GenerateChunk, Result<GenerateSummary>> what;
};

// Brings the events of all requests to the command's thread. Its length is bounded by the service,
// which pauses a request whose tokens are not reported as delivered.
// Threads: any may push or interrupt, one pops.
class EventQueue {
 public:
  void push(Event event);
  // The next event; empty, once, after interrupt(). Blocks.
  std::optional<Event> pop();
  // Wakes pop() before any event that waits.
  void interrupt();

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Event> events_;  // under mutex_
  bool interrupted_ = false;  // under mutex_
};

// Feeds one request's output into a queue.
class QueueObserver final : public GenerateObserver {
 public:
  QueueObserver(std::shared_ptr<EventQueue> queue, size_t request);
  void on_chunk(GenerateChunk chunk) override;
  void on_end(Result<GenerateSummary> end) override;

 private:
  std::shared_ptr<EventQueue> queue_;
  size_t request_;
};

}  // namespace sluice::cli
