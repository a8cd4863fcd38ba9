#include "tokenizer/merge_table.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace sluice::tokenizer {
namespace {

constexpr int32_t kEnd = -1;
constexpr size_t kShortWord = 32;  // symbols

void merge_short_word(const MergeTable& merges, MergeScratch* scratch) {
  std::vector<int32_t>& ids = scratch->token_ids;
  std::vector<uint32_t>& ranks = scratch->ranks;  // ranks[i]: of the pair (i, i + 1)
  ranks.clear();
  for (size_t i = 0; i + 1 < ids.size(); ++i) ranks.push_back(merges.rank(ids[i], ids[i + 1]));
  while (!ranks.empty()) {
    const auto best = std::min_element(ranks.begin(), ranks.end());
    if (*best == MergeTable::kNoRank) return;
    const auto at = best - ranks.begin();
    const auto idx = static_cast<size_t>(at);
    ids[idx] = merges.merged_id(*best);
    ids.erase(ids.begin() + at + 1);
    ranks.erase(best);
    if (idx > 0) ranks[idx - 1] = merges.rank(ids[idx - 1], ids[idx]);
    if (idx + 1 < ids.size()) ranks[idx] = merges.rank(ids[idx], ids[idx + 1]);
  }
}

// A word as a linked list of symbols, with a heap of the pairs that may merge. Entries of the heap
// whose pair has changed meanwhile are recognised by their rank and skipped.
class LongWord {
 public:
  LongWord(const MergeTable& merges, MergeScratch* scratch) : merges_(merges), s_(*scratch) {
    const auto size = static_cast<int32_t>(s_.token_ids.size());
    s_.ranks.assign(s_.token_ids.size(), MergeTable::kNoRank);
    s_.next.resize(s_.token_ids.size());
    s_.previous.resize(s_.token_ids.size());
    s_.heap.clear();
    for (int32_t i = 0; i < size; ++i) {
      at(s_.next, i) = i + 1 < size ? i + 1 : kEnd;
      at(s_.previous, i) = i - 1;
      const uint32_t rank = find_rank(i);
      if (rank != MergeTable::kNoRank) s_.heap.push_back(entry(i, rank));
    }
    std::make_heap(s_.heap.begin(), s_.heap.end(), std::greater<>());
  }

  void merge() {
    while (!s_.heap.empty()) {
      std::pop_heap(s_.heap.begin(), s_.heap.end(), std::greater<>());
      const uint64_t top = s_.heap.back();
      s_.heap.pop_back();
      const auto idx = static_cast<int32_t>(top & UINT32_MAX);
      const auto rank = static_cast<uint32_t>(top >> 32);
      if (at(s_.ranks, idx) == rank) merge_pair(idx, rank);
    }
    size_t count = 0;
    for (int32_t i = 0; i != kEnd; i = at(s_.next, i)) s_.token_ids[count++] = at(s_.token_ids, i);
    s_.token_ids.resize(count);
  }

 private:
  template <typename T>
  static T& at(std::vector<T>& values, int32_t idx) {
    return values[static_cast<size_t>(idx)];
  }
  static uint64_t entry(int32_t idx, uint32_t rank) {
    return (static_cast<uint64_t>(rank) << 32) | static_cast<uint32_t>(idx);
  }

  uint32_t find_rank(int32_t idx) {
    const int32_t right = at(s_.next, idx);
    const uint32_t rank = right == kEnd
                              ? MergeTable::kNoRank
                              : merges_.rank(at(s_.token_ids, idx), at(s_.token_ids, right));
    at(s_.ranks, idx) = rank;
    return rank;
  }

  void refresh(int32_t idx) {
    const uint32_t rank = find_rank(idx);
    if (rank == MergeTable::kNoRank) return;
    s_.heap.push_back(entry(idx, rank));
    std::push_heap(s_.heap.begin(), s_.heap.end(), std::greater<>());
  }

  void merge_pair(int32_t idx, uint32_t rank) {
    const int32_t right = at(s_.next, idx);
    const int32_t after = at(s_.next, right);
    at(s_.token_ids, idx) = merges_.merged_id(rank);
    at(s_.next, idx) = after;
    if (after != kEnd) at(s_.previous, after) = idx;
    at(s_.ranks, right) = MergeTable::kNoRank;
    refresh(idx);
    if (at(s_.previous, idx) != kEnd) refresh(at(s_.previous, idx));
  }

  const MergeTable& merges_;
  MergeScratch& s_;
};

uint64_t pair_of(int32_t left_id, int32_t right_id) {
  return (static_cast<uint64_t>(left_id) << 32) | static_cast<uint32_t>(right_id);
}

}  // namespace

MergeTable::MergeTable(std::span<const Merge> merges)
    : slots_(std::bit_ceil(merges.size() * 2 + 2)) {
  constexpr size_t kAhead = 8;  // most of the time is waiting for memory
  merged_ids_.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    if (i + kAhead < merges.size()) {
      const Merge& later = merges[i + kAhead];
      __builtin_prefetch(&slots_[home(pair_of(later.left_id, later.right_id))], 1);
    }
    const uint64_t pair = pair_of(merges[i].left_id, merges[i].right_id);
    slots_[locate(pair)] = {pair, static_cast<uint32_t>(i)};
    merged_ids_.push_back(merges[i].merged_id);
  }
}

size_t MergeTable::home(uint64_t pair) const {
  return static_cast<size_t>((pair * 0x9E3779B97F4A7C15ULL) >> 32) & (slots_.size() - 1);
}

size_t MergeTable::locate(uint64_t pair) const {
  const size_t mask = slots_.size() - 1;
  size_t idx = home(pair);
  while (slots_[idx].rank != kNoRank && slots_[idx].pair != pair) idx = (idx + 1) & mask;
  return idx;
}

uint32_t MergeTable::rank(int32_t left_id, int32_t right_id) const {
  return slots_[locate(pair_of(left_id, right_id))].rank;
}

void apply_merges(const MergeTable& merges, MergeScratch* scratch) {
  if (scratch->token_ids.size() <= kShortWord) {
    merge_short_word(merges, scratch);
  } else {
    LongWord(merges, scratch).merge();
  }
}

}  // namespace sluice::tokenizer
