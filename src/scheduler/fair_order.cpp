#include "scheduler/fair_order.h"

#include <algorithm>

namespace sluice::scheduler {

int64_t FairOrder::charge(int64_t prompt_tokens, int64_t max_tokens) {
  return prompt_tokens + std::min(max_tokens, kAssumedTokens);
}

uint64_t FairOrder::next_turn(const std::string& client, int32_t completions, int64_t tokens) {
  Share& share = shares_[client];
  share.last_turn = std::max({now_, share.end, share.last_turn});
  share.end = share.last_turn + static_cast<uint64_t>(tokens);
  share.num_live += completions;
  return share.last_turn;
}

void FairOrder::started(uint64_t turn) {
  now_ = std::max(now_, turn);
}

void FairOrder::settle(const std::string& client, int64_t charged, int64_t taken) {
  const auto place = shares_.find(client);
  Share& share = place->second;
  const int64_t more = taken - charged;
  const auto back = static_cast<uint64_t>(std::max<int64_t>(0, -more));
  share.end =
      share.end + static_cast<uint64_t>(std::max<int64_t>(0, more)) - std::min(back, share.end);
  if (--share.num_live == 0 && share.end <= now_) shares_.erase(place);
}

void FairOrder::clear() {
  shares_.clear();
  now_ = 0;
}

}  // namespace sluice::scheduler
