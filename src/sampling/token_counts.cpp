#include "sampling/token_counts.h"

#include <algorithm>

namespace sluice::sampling {

void TokenCounts::add_prompt(std::span<const int32_t> token_ids) {
  const auto first_new = static_cast<std::ptrdiff_t>(entries_.size());
  for (const int32_t id : token_ids) entries_.push_back({id, 0});
  const auto by_id = [](const Entry& a, const Entry& b) { return a.token_id < b.token_id; };
  std::sort(entries_.begin() + first_new, entries_.end(), by_id);
  std::inplace_merge(entries_.begin(), entries_.begin() + first_new, entries_.end(), by_id);
  size_t kept = 0;
  for (const Entry& entry : entries_) {
    if (kept > 0 && entries_[kept - 1].token_id == entry.token_id) {
      entries_[kept - 1].num_generated += entry.num_generated;
    } else {
      entries_[kept++] = entry;
    }
  }
  entries_.resize(kept);
}

void TokenCounts::add_generated(int32_t token_id) {
  const auto place =
      std::lower_bound(entries_.begin(), entries_.end(), token_id,
                       [](const Entry& entry, int32_t id) { return entry.token_id < id; });
  if (place != entries_.end() && place->token_id == token_id) {
    ++place->num_generated;
  } else {
    entries_.insert(place, {token_id, 1});
  }
}

}  // namespace sluice::sampling
