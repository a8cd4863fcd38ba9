#include "engine/live_request.h"

#include <algorithm>

namespace sluice::engine {

void UntakenTokens::add(int32_t index, int32_t num_tokens, bool counts) {
  if (num_tokens == 0) return;
  const std::lock_guard lock(mutex_);
  entries_.push_back({index, num_tokens, counts});
}

bool UntakenTokens::take(int32_t num_tokens,
                         const std::vector<std::shared_ptr<sequence::Signals>>& signals,
                         int32_t max_undelivered) {
  const std::lock_guard lock(mutex_);
  bool may_go_on = false;
  while (num_tokens > 0 && !entries_.empty()) {
    Entry& oldest = entries_.front();
    const int32_t taken = std::min(num_tokens, oldest.num_tokens);
    if (oldest.counts) {
      auto& undelivered = signals[static_cast<size_t>(oldest.index)]->undelivered_tokens;
      const int32_t before = undelivered.fetch_sub(taken, std::memory_order_acq_rel);
      may_go_on |= before >= max_undelivered && before - taken < max_undelivered;
    }
    num_tokens -= taken;
    oldest.num_tokens -= taken;
    if (oldest.num_tokens == 0) entries_.pop_front();
  }
  return may_go_on;
}

}  // namespace sluice::engine
