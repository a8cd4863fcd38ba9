#include "kv_cache/prefix_cache.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace sluice::kv_cache {

PrefixCache::PrefixCache(const PrefixCacheOptions& options)
    : options_(options), allocator_(options.num_blocks) {
  assert(options.block_size >= 1);
  const auto num_blocks = static_cast<size_t>(options.num_blocks);
  entries_.resize(num_blocks);
  tokens_.resize(num_blocks * static_cast<size_t>(options.block_size));
  buckets_.assign(std::bit_ceil(2 * num_blocks + 1), kNone);
  chain_.reserve(num_blocks);
}

std::optional<int32_t> PrefixCache::start(std::span<const int32_t> tokens,
                                          int32_t max_shared_tokens, int32_t reserve,
                                          std::vector<BlockId>& table) {
  assert(table.empty() && reserve >= 0);
  const auto size = static_cast<size_t>(options_.block_size);
  const size_t limit = std::min(tokens.size(), static_cast<size_t>(std::max(0, max_shared_tokens)));
  chain_.clear();
  int32_t num_unused_in_chain = 0;
  BlockId parent = kNone;
  for (size_t begin = 0; begin + size <= limit; begin += size) {
    const auto block_tokens = tokens.subspan(begin, size);
    const BlockId block = find(parent, block_tokens, hash_of(parent, block_tokens));
    if (block == kNone) break;
    num_unused_in_chain += entry(block).is_unused ? 1 : 0;
    chain_.push_back(block);
    parent = block;
  }
  const auto num_shared = static_cast<int32_t>(chain_.size());
  const int32_t num_new = blocks_for(static_cast<int64_t>(tokens.size())) - num_shared;
  if (num_available() - num_unused_in_chain < num_new + reserve) return std::nullopt;
  for (const BlockId block : chain_) use(block);
  table.insert(table.end(), chain_.begin(), chain_.end());
  [[maybe_unused]] const bool is_allocated = allocate(num_new, table);
  assert(is_allocated);
  return num_shared * options_.block_size;
}

std::optional<uint64_t> PrefixCache::beginning(std::span<const int32_t> tokens) const {
  const auto size = static_cast<size_t>(options_.block_size);
  if (tokens.size() < size) return std::nullopt;
  return hash_of(kNone, tokens.first(size));
}

bool PrefixCache::has_beginning(std::span<const int32_t> tokens) {
  const std::optional<uint64_t> hash = beginning(tokens);
  return hash &&
         find(kNone, tokens.first(static_cast<size_t>(options_.block_size)), *hash) != kNone;
}

bool PrefixCache::grow(int32_t num_tokens, std::vector<BlockId>& table) {
  const int32_t count = blocks_for(num_tokens) - static_cast<int32_t>(table.size());
  return count <= 0 || allocate(count, table);
}

void PrefixCache::publish(std::span<const int32_t> tokens, int32_t num_published,
                          int32_t num_computed, std::vector<BlockId>& table) {
  const auto size = static_cast<size_t>(options_.block_size);
  const size_t end = static_cast<size_t>(num_computed) / size;
  for (size_t i = static_cast<size_t>(num_published) / size; i < end; ++i) {
    const BlockId parent = i == 0 ? kNone : table[i - 1];
    assert(parent == kNone || entry(parent).is_published);
    const auto block_tokens = tokens.subspan(i * size, size);
    const uint64_t hash = hash_of(parent, block_tokens);
    const BlockId known = find(parent, block_tokens, hash);
    if (known == kNone) {
      insert(table[i], parent, block_tokens, hash);
    } else {
      assert(known != table[i]);
      use(known);
      release_one(table[i]);
      table[i] = known;
    }
  }
}

void PrefixCache::release(std::vector<BlockId>& table) {
  for (size_t i = table.size(); i > 0; --i) release_one(table[i - 1]);
  table.clear();
}

int32_t PrefixCache::num_users(BlockId block) const {
  return entries_[static_cast<size_t>(block)].is_unused ? 0 : allocator_.num_users(block);
}

std::span<int32_t> PrefixCache::tokens_of(BlockId block) {
  const auto size = static_cast<size_t>(options_.block_size);
  return std::span(tokens_).subspan(static_cast<size_t>(block) * size, size);
}

uint64_t PrefixCache::hash_of(BlockId parent, std::span<const int32_t> tokens) const {
  constexpr uint64_t kMultiplier = 0x9e3779b97f4a7c15ULL;
  uint64_t hash = options_.hash_seed ^ (static_cast<uint64_t>(parent + 1) * kMultiplier);
  for (const int32_t token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * kMultiplier;
    hash ^= hash >> 32;
  }
  return hash;
}

BlockId PrefixCache::find(BlockId parent, std::span<const int32_t> tokens, uint64_t hash) {
  BlockId block = bucket_of(hash);
  while (block != kNone) {
    const Entry& candidate = entry(block);
    if (candidate.hash == hash && candidate.parent == parent &&
        std::ranges::equal(tokens_of(block), tokens)) {
      break;
    }
    block = candidate.next_in_bucket;
  }
  return block;
}

void PrefixCache::insert(BlockId block, BlockId parent, std::span<const int32_t> tokens,
                         uint64_t hash) {
  Entry& added = entry(block);
  assert(!added.is_published);
  added.is_published = true;
  added.parent = parent;
  added.hash = hash;
  added.next_in_bucket = bucket_of(hash);
  bucket_of(hash) = block;
  std::ranges::copy(tokens, tokens_of(block).begin());
}

void PrefixCache::unpublish(BlockId block) {
  Entry& removed = entry(block);
  BlockId* link = &bucket_of(removed.hash);
  while (*link != block) link = &entry(*link).next_in_bucket;
  *link = removed.next_in_bucket;
  removed = Entry{};
}

void PrefixCache::use(BlockId block) {
  if (entry(block).is_unused) {
    unlink_unused(block);  // the cache's own use becomes the sequence's
  } else {
    allocator_.add_user(block);
  }
}

void PrefixCache::release_one(BlockId block) {
  const bool is_last = allocator_.num_users(block) == 1;
  if (is_last && entry(block).is_published) {
    if (options_.keep_unused) {
      push_newest_unused(block);
      return;
    }
    unpublish(block);
  }
  allocator_.release(block);
}

bool PrefixCache::allocate(int32_t count, std::vector<BlockId>& table) {
  if (count > num_available()) return false;
  while (allocator_.num_free() < count) {
    const BlockId block = oldest_unused_;
    unlink_unused(block);
    unpublish(block);
    allocator_.release(block);
  }
  return allocator_.try_allocate(count, table);
}

void PrefixCache::push_newest_unused(BlockId block) {
  Entry& pushed = entry(block);
  assert(!pushed.is_unused);
  pushed.is_unused = true;
  pushed.older = newest_unused_;
  pushed.newer = kNone;
  (newest_unused_ == kNone ? oldest_unused_ : entry(newest_unused_).newer) = block;
  newest_unused_ = block;
  ++num_unused_;
}

void PrefixCache::unlink_unused(BlockId block) {
  Entry& removed = entry(block);
  assert(removed.is_unused);
  (removed.older == kNone ? oldest_unused_ : entry(removed.older).newer) = removed.newer;
  (removed.newer == kNone ? newest_unused_ : entry(removed.newer).older) = removed.older;
  removed.is_unused = false;
  --num_unused_;
}

}  // namespace sluice::kv_cache
