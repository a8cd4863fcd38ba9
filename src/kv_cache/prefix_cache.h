#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kv_cache/block_allocator.h"

namespace sluice::kv_cache {

struct PrefixCacheOptions {
  int32_t num_blocks = 0;   // N
  int32_t block_size = 16;  // S, tokens
  // Keep full blocks that nobody uses any more until their place is needed, the one unused for the
  // longest time going first. Without it, sequences share blocks only while one of them lives.
  bool keep_unused = false;
  // Scatters the hash table; no result depends on it. A secret value keeps clients from building
  // prompts that collide.
  uint64_t hash_seed = 0;
};

// Manages the block tables of all sequences, and lets sequences with an equal beginning share its
// full blocks.
//
// A full block whose tokens are computed is published under (the block before it, its S token
// ids). A starting sequence takes the longest published chain that begins its tokens; the ids
// themselves are compared, a hash only finds the candidates. A shared block is never written
// again, so nothing is ever copied; by the row law its bits are those the sequence would have
// computed itself.
// Units:   blocks, unless a name ends in _tokens. A sequence's table has ceil(tokens / S) blocks.
// Threads: engine thread only. Nothing is allocated on the heap after construction, but for the
//          growth of the callers' tables.
// Source:  the idea of automatic prefix caching in vLLM; chain by block identity instead of by
// hash.
class PrefixCache final {
 public:
  // Requires: num_blocks >= 0, block_size >= 1.
  explicit PrefixCache(const PrefixCacheOptions& options);

  // Builds the table of a sequence that starts (or starts again) with `tokens`: shares what is
  // published, at most `max_shared_tokens` of it, allocates the rest. Returns the number of tokens
  // (a multiple of S) that need not be computed. All or nothing: nullopt, nothing changed, if
  // fewer than `reserve` blocks would remain available.
  // Requires: table is empty, reserve >= 0.
  std::optional<int32_t> start(std::span<const int32_t> tokens, int32_t max_shared_tokens,
                               int32_t reserve, std::vector<BlockId>& table);

  // The hash of a sequence's first block, which is what it must have in common with another one to
  // share anything; nullopt if it has no full block. And whether that block is published.
  std::optional<uint64_t> beginning(std::span<const int32_t> tokens) const;
  bool has_beginning(std::span<const int32_t> tokens);

  // Grows `table` until it holds `num_tokens` tokens: all or nothing, false if too few blocks are
  // available.
  bool grow(int32_t num_tokens, std::vector<BlockId>& table);

  // Tells that the cache now holds tokens [0, num_computed) of a sequence, of which
  // [0, num_published) were told before; publishes the blocks that became full. Where an equal
  // block is published already, `table` gets that one and its own copy is released: so read tables
  // anew before every step. Cost: O(new full blocks).
  void publish(std::span<const int32_t> tokens, int32_t num_published, int32_t num_computed,
               std::vector<BlockId>& table);

  // Gives all blocks of `table` back and empties it.
  void release(std::vector<BlockId>& table);

  int32_t num_blocks() const { return options_.num_blocks; }
  int32_t blocks_for(int64_t num_tokens) const {
    return static_cast<int32_t>((num_tokens + options_.block_size - 1) / options_.block_size);
  }
  // Blocks that start() and grow() can still hand out: free ones and unused published ones.
  int32_t num_available() const { return allocator_.num_free() + num_unused_; }
  int32_t num_used() const { return num_blocks() - num_available(); }
  // Published blocks that no sequence uses.
  int32_t num_unused() const { return num_unused_; }
  int32_t num_users(BlockId block) const;

 private:
  static constexpr BlockId kNone = -1;

  // What is known of one block beyond its users.
  //
  // Who uses a block uses all blocks before it too, and tables are released from their end, so an
  // unused block is always older in the list than the block before it: evicting the oldest never
  // breaks a chain, and a published block's parent is published.
  struct Entry {
    bool is_published = false;
    bool is_unused = false;  // published, in the list of unused blocks
    BlockId parent = kNone;  // the block before it; kNone at a beginning
    uint64_t hash = 0;       // of parent and tokens
    BlockId next_in_bucket = kNone;
    BlockId older = kNone;  // neighbours in the list of unused blocks
    BlockId newer = kNone;
  };

  Entry& entry(BlockId block) { return entries_[static_cast<size_t>(block)]; }
  std::span<int32_t> tokens_of(BlockId block);
  uint64_t hash_of(BlockId parent, std::span<const int32_t> tokens) const;
  BlockId& bucket_of(uint64_t hash) { return buckets_[hash & (buckets_.size() - 1)]; }
  BlockId find(BlockId parent, std::span<const int32_t> tokens, uint64_t hash);
  void insert(BlockId block, BlockId parent, std::span<const int32_t> tokens, uint64_t hash);
  void unpublish(BlockId block);
  void use(BlockId block);
  void release_one(BlockId block);
  bool allocate(int32_t count, std::vector<BlockId>& table);
  void push_newest_unused(BlockId block);
  void unlink_unused(BlockId block);

  PrefixCacheOptions options_;
  BlockAllocator allocator_;      // an unused block that is kept has one user here: this cache
  std::vector<Entry> entries_;    // [N]
  std::vector<int32_t> tokens_;   // [N, S], of published blocks
  std::vector<BlockId> buckets_;  // [power of two], chained through next_in_bucket
  std::vector<BlockId> chain_;    // scratch of start()
  BlockId oldest_unused_ = kNone;
  BlockId newest_unused_ = kNone;
  int32_t num_unused_ = 0;
};

}  // namespace sluice::kv_cache
