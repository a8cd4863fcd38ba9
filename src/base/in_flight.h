#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace sluice::base {

// How many of something are under way, for those who wait until fewer are. Threads: any.
class InFlight final {
 public:
  int64_t count() const {
    const std::scoped_lock lock(mutex_);
    return count_;
  }
  void begin() {
    const std::scoped_lock lock(mutex_);
    ++count_;
  }
  void end() {
    const std::scoped_lock lock(mutex_);
    --count_;
    ended_.notify_all();  // under the lock: who waits may destroy this at once
  }
  // Until fewer than `limit` are under way. False if `until` comes first.
  bool wait_below(int64_t limit, std::chrono::steady_clock::time_point until) {
    std::unique_lock lock(mutex_);
    return ended_.wait_until(lock, until, [&] { return count_ < limit; });
  }
  void wait_for_none() {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return count_ == 0; });
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable ended_;
  int64_t count_ = 0;
};

}  // namespace sluice::base
