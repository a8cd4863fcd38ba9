#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace sluice::base {

using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::nanoseconds;

// `start + duration`, or the last moment that there is when the sum lies beyond it.
// Requires: duration >= 0.
inline TimePoint after(TimePoint start, Duration duration) {
  return duration > TimePoint::max() - std::max(start, TimePoint()) ? TimePoint::max()
                                                                    : start + duration;
}

inline double in_seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

// A whole number of milliseconds; what a Duration cannot hold becomes its nearest limit.
inline Duration from_milliseconds(int64_t milliseconds) {
  constexpr int64_t kMost = Duration::max() / std::chrono::milliseconds(1);
  if (milliseconds > kMost) return Duration::max();
  if (milliseconds < -kMost) return Duration::min();
  return std::chrono::milliseconds(milliseconds);
}

// Where time comes from, so that tests can set it. Threads: any.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;
};

class SteadyClock final : public Clock {
 public:
  TimePoint now() const override { return std::chrono::steady_clock::now(); }
};

}  // namespace sluice::base
