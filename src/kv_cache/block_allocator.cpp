#include "kv_cache/block_allocator.h"

#include <cassert>

namespace sluice::kv_cache {

BlockAllocator::BlockAllocator(int32_t num_blocks) {
  assert(num_blocks >= 0);
  num_users_.assign(static_cast<size_t>(num_blocks), 0);
  free_.reserve(static_cast<size_t>(num_blocks));
  for (BlockId block = num_blocks - 1; block >= 0; --block) free_.push_back(block);
}

bool BlockAllocator::try_allocate(int32_t count, std::vector<BlockId>& blocks) {
  assert(count >= 0);
  if (count > num_free()) return false;
  for (int32_t i = 0; i < count; ++i) {
    const BlockId block = free_.back();
    free_.pop_back();
    assert(num_users(block) == 0);
    num_users_[static_cast<size_t>(block)] = 1;
    blocks.push_back(block);
  }
  return true;
}

void BlockAllocator::add_user(BlockId block) {
  assert(num_users(block) > 0);
  ++num_users_[static_cast<size_t>(block)];
}

bool BlockAllocator::release(BlockId block) {
  assert(num_users(block) > 0);
  if (--num_users_[static_cast<size_t>(block)] > 0) return false;
  free_.push_back(block);
  return true;
}

}  // namespace sluice::kv_cache
