#pragma once

#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace sluice::server {

// A rate limit that allows bursts: holds at most one minute's worth, is full at first, fills
// evenly, and may be overdrawn by what is known only afterwards; then it has to fill up again.
//
// Threads: its owner's. Time: monotonic, given by the caller; time that goes back counts as none.
class TokenBucket final {
 public:
  explicit TokenBucket(base::TimePoint now) : filled_at_(now) {}

  // Fills it up to `now` at `per_minute` (>= 1), which may differ from call to call.
  void fill(base::TimePoint now, int64_t per_minute);
  void take(int64_t amount) { missing_ += static_cast<double>(amount); }
  // Requires: fill(now, per_minute) was called just before.
  bool has(int64_t amount, int64_t per_minute) const {
    return static_cast<double>(per_minute) - missing_ >= static_cast<double>(amount);
  }
  // Until has(amount) is true if nothing is taken. Requires: amount <= per_minute.
  base::Duration time_until(int64_t amount, int64_t per_minute) const;
  // Whether it is full by `now`, at the rate at which it was filled last.
  bool is_full(base::TimePoint now) const;

 private:
  base::TimePoint filled_at_;
  double missing_ = 0;      // to be full
  int64_t per_minute_ = 0;  // at the last fill()
};

}  // namespace sluice::server
