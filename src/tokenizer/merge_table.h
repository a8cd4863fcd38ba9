#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sluice::tokenizer {

// The merges of byte-pair encoding, by rank, and their application.
//
// Threads: any.
// Source: Sennrich et al. 2016, arXiv:1508.07909.
class MergeTable final {
 public:
  static constexpr uint32_t kNoRank = UINT32_MAX;

  // `left_id` followed by `right_id` becomes `merged_id`.
  struct Merge {
    int32_t left_id = 0;
    int32_t right_id = 0;
    int32_t merged_id = 0;
  };

  // `merges` by rank. Of a pair that is there twice the later rank counts.
  explicit MergeTable(std::span<const Merge> merges = {});

  uint32_t rank(int32_t left_id, int32_t right_id) const;  // kNoRank if they do not merge
  int32_t merged_id(uint32_t rank) const { return merged_ids_[rank]; }

 private:
  struct Slot {
    uint64_t pair = 0;
    uint32_t rank = kNoRank;
  };
  size_t home(uint64_t pair) const;
  size_t locate(uint64_t pair) const;

  std::vector<Slot> slots_;  // a power of two, at most half full
  std::vector<int32_t> merged_ids_;
};

// Buffers that one encode call uses again and again.
struct MergeScratch {
  std::vector<int32_t> token_ids;  // in: one per symbol of the word; out: the word's tokens
  std::vector<uint32_t> ranks;
  std::vector<int32_t> next;
  std::vector<int32_t> previous;
  std::vector<uint64_t> heap;
};

// Merges scratch->token_ids until no pair is left: always the pair of the lowest rank, of equals
// the leftmost. Short words in O(n^2) with a small constant, long ones in O(n log n).
void apply_merges(const MergeTable& merges, MergeScratch* scratch);

}  // namespace sluice::tokenizer
