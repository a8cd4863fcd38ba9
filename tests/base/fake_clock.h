#pragma once

#include <atomic>
#include <chrono>

#include "base/clock.h"

namespace sluice::base {

// A clock that stands still until a test moves it. Threads: any.
class FakeClock final : public Clock {
 public:
  TimePoint now() const override { return TimePoint(Duration(nanoseconds_.load())); }
  void advance(Duration duration) { nanoseconds_ += duration.count(); }
  void set(TimePoint now) { nanoseconds_ = Duration(now.time_since_epoch()).count(); }

 private:
  std::atomic<Duration::rep> nanoseconds_{1'000'000'000};
};

}  // namespace sluice::base
