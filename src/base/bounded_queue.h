#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

namespace sluice::base {

// A queue of at most `capacity` items from many threads to one.
//
// Nobody waits to push: a full queue is the caller's to report. The lock is held for a move of one
// item or a swap of two vectors.
// Threads: push, wake and size from any; pop_all and wait_pop_all from one.
template <typename T>
class BoundedQueue final {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // False at once if the queue is full or closed; `item` is untouched then.
  bool try_push(T&& item) {
    {
      std::lock_guard lock(mutex_);
      if (is_closed_ || items_.size() >= capacity_) return false;
      items_.push_back(std::move(item));
    }
    changed_.notify_one();
    return true;
  }

  // Replaces `items` by everything that is queued, in order. Does not wait.
  void pop_all(std::vector<T>& items) {
    items.clear();
    std::lock_guard lock(mutex_);
    take(items);
  }

  // The same, but waits until there is something, wake() or close() was called, or `timeout`
  // passed.
  void wait_pop_all(std::vector<T>& items, std::chrono::nanoseconds timeout) {
    items.clear();
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, timeout, [&] { return !items_.empty() || is_woken_ || is_closed_; });
    take(items);
  }

  // Makes the consumer's current or next wait return. Kept until then: no wake-up is lost.
  void wake() {
    {
      std::lock_guard lock(mutex_);
      is_woken_ = true;
    }
    changed_.notify_one();
  }

  // Refuses every later push. What is queued can still be popped.
  void close() {
    {
      std::lock_guard lock(mutex_);
      is_closed_ = true;
    }
    changed_.notify_one();
  }

  size_t size() const {
    std::lock_guard lock(mutex_);
    return items_.size();
  }

 private:
  void take(std::vector<T>& items) {
    is_woken_ = false;
    items.swap(items_);  // the two vectors change places for ever: soon nothing is allocated
  }

  const size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<T> items_;
  bool is_woken_ = false;
  bool is_closed_ = false;
};

}  // namespace sluice::base
