#include "server/access/token_bucket.h"

#include <algorithm>

namespace sluice::server {
namespace {

using Minutes = std::chrono::duration<double, std::ratio<60>>;

}  // namespace

void TokenBucket::fill(base::TimePoint now, int64_t per_minute) {
  const Minutes passed = std::max(base::Duration(0), now - filled_at_);
  filled_at_ = std::max(filled_at_, now);
  per_minute_ = per_minute;
  missing_ = std::max(0.0, missing_ - passed.count() * static_cast<double>(per_minute));
}

bool TokenBucket::is_full(base::TimePoint now) const {
  const Minutes passed = std::max(base::Duration(0), now - filled_at_);
  return missing_ <= passed.count() * static_cast<double>(per_minute_);
}

base::Duration TokenBucket::time_until(int64_t amount, int64_t per_minute) const {
  const auto rate = static_cast<double>(per_minute);
  const Minutes time((missing_ + static_cast<double>(amount) - rate) / rate);
  constexpr Minutes kMost = std::chrono::hours(24);
  return std::chrono::ceil<base::Duration>(std::clamp(time, Minutes(0), kMost));
}

}  // namespace sluice::server
