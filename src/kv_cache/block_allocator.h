#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sluice::kv_cache {

// Index of a block in the KV pool, 0 .. num_blocks - 1.
using BlockId = int32_t;

// Hands out fixed-size KV-cache blocks and counts the users of each.
//
// It owns numbers, not memory: the tensors live in KvPool and are indexed by BlockId. Everything is
// O(1) a block; nothing is allocated after construction.
// Units:   blocks.
// Threads: engine thread only.
// Source:  Kwon et al. 2023, arXiv:2309.06180.
class BlockAllocator final {
 public:
  // Requires: num_blocks >= 0.
  explicit BlockAllocator(int32_t num_blocks);

  // Appends `count` blocks with one user each to `blocks`: all of them or none. False if fewer are
  // free; nothing changed then. Requires: count >= 0.
  bool try_allocate(int32_t count, std::vector<BlockId>& blocks);

  // Requires: the block has a user.
  void add_user(BlockId block);

  // Takes one user away; true if it was the last one and the block is free again.
  // Requires: the block has a user.
  bool release(BlockId block);

  int32_t num_users(BlockId block) const { return num_users_[static_cast<size_t>(block)]; }
  int32_t num_free() const { return static_cast<int32_t>(free_.size()); }
  int32_t num_blocks() const { return static_cast<int32_t>(num_users_.size()); }

 private:
  std::vector<BlockId> free_;  // a stack: the block freed last is the next one out (warm caches)
  std::vector<int32_t> num_users_;
};

}  // namespace sluice::kv_cache
