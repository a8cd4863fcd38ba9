#include "kv_cache/prefix_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace sluice::kv_cache {
namespace {

std::vector<int32_t> iota_tokens(int32_t count) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t i = 0; i < count; ++i) tokens[static_cast<size_t>(i)] = 100 + i;
  return tokens;
}

PrefixCacheOptions options(int32_t num_blocks, bool keep_unused) {
  return {.num_blocks = num_blocks, .block_size = 4, .keep_unused = keep_unused};
}

TEST(PrefixCacheTest, SharesFullPublishedBlocksOnly) {
  PrefixCache cache(options(16, false));
  const auto tokens = iota_tokens(11);
  std::vector<BlockId> first, second, third;
  ASSERT_EQ(cache.start(tokens, 10, 0, first), 0);
  EXPECT_EQ(first.size(), 3u);
  cache.publish(tokens, 0, 7, first);
  ASSERT_EQ(cache.start(tokens, 10, 0, second), 4);
  EXPECT_EQ(second[0], first[0]);
  EXPECT_NE(second[1], first[1]);
  cache.publish(tokens, 7, 11, first);
  ASSERT_EQ(cache.start(tokens, 10, 0, third), 8);
  EXPECT_EQ(third[1], first[1]);
  EXPECT_NE(third[2], first[2]);  // not full
  EXPECT_EQ(cache.num_users(first[0]), 3);
  EXPECT_EQ(cache.num_used(), 3 + 2 + 1);
}

TEST(PrefixCacheTest, NeverSharesMoreThanAllowed) {
  PrefixCache cache(options(16, false));
  const auto tokens = iota_tokens(8);
  std::vector<BlockId> first, second;
  ASSERT_EQ(cache.start(tokens, 7, 0, first), 0);
  cache.publish(tokens, 0, 8, first);
  EXPECT_EQ(cache.start(tokens, 7, 0, second), 4);
  cache.release(second);
  EXPECT_EQ(cache.start(tokens, 0, 0, second), 0);
}

TEST(PrefixCacheTest, TheWholeBeginningMustBeEqual) {
  PrefixCache cache(options(16, false));
  auto tokens = iota_tokens(12);
  std::vector<BlockId> first, second;
  ASSERT_EQ(cache.start(tokens, 11, 0, first), 0);
  cache.publish(tokens, 0, 12, first);
  tokens[0] = 7;  // the second block's tokens are equal, what is before them is not
  EXPECT_EQ(cache.start(tokens, 11, 0, second), 0);
}

TEST(PrefixCacheTest, EqualBlocksComputedTwiceBecomeOne) {
  PrefixCache cache(options(16, false));
  const auto tokens = iota_tokens(8);
  std::vector<BlockId> first, second;
  ASSERT_EQ(cache.start(tokens, 7, 0, first), 0);
  ASSERT_EQ(cache.start(tokens, 7, 0, second), 0);
  EXPECT_EQ(cache.num_used(), 4);
  cache.publish(tokens, 0, 8, first);
  cache.publish(tokens, 0, 8, second);
  EXPECT_EQ(first, second);
  EXPECT_EQ(cache.num_used(), 2);
  cache.release(first);
  EXPECT_EQ(cache.num_used(), 2);
  cache.release(second);
  EXPECT_EQ(cache.num_used(), 0);
  EXPECT_EQ(cache.num_unused(), 0);
}

TEST(PrefixCacheTest, WithoutKeepingTheLastUserTakesTheBlocksAlong) {
  PrefixCache cache(options(4, false));
  const auto tokens = iota_tokens(8);
  std::vector<BlockId> table;
  ASSERT_EQ(cache.start(tokens, 7, 0, table), 0);
  cache.publish(tokens, 0, 8, table);
  cache.release(table);
  EXPECT_EQ(cache.start(tokens, 7, 0, table), 0);
}

TEST(PrefixCacheTest, KeptBlocksAreFoundAgainAndGoOldestLast) {
  PrefixCache cache(options(4, true));
  const auto tokens = iota_tokens(16);
  std::vector<BlockId> table;
  ASSERT_EQ(cache.start(tokens, 15, 0, table), 0);
  cache.publish(tokens, 0, 16, table);
  cache.release(table);
  EXPECT_EQ(cache.num_unused(), 4);
  EXPECT_EQ(cache.num_used(), 0);
  const std::vector<int32_t> other = {1, 2, 3, 4, 5};
  std::vector<BlockId> other_table;
  ASSERT_EQ(cache.start(other, 4, 0, other_table), 0);  // evicts the chain's last two blocks
  EXPECT_EQ(cache.start(std::span(tokens).first(9), 8, 0, table), std::nullopt);
  EXPECT_EQ(cache.num_unused(), 2);
  EXPECT_EQ(cache.start(std::span(tokens).first(8), 8, 0, table), 8);
  EXPECT_EQ(cache.num_unused(), 0);
}

TEST(PrefixCacheTest, StartKeepsTheReserveAndChangesNothingElse) {
  PrefixCache cache(options(4, true));
  const auto tokens = iota_tokens(9);
  std::vector<BlockId> table;
  EXPECT_EQ(cache.start(tokens, 8, 2, table), std::nullopt);
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(cache.num_available(), 4);
  EXPECT_EQ(cache.start(tokens, 8, 1, table), 0);
  EXPECT_FALSE(cache.grow(17, table));
  EXPECT_EQ(table.size(), 3u);
  EXPECT_TRUE(cache.grow(16, table));
  EXPECT_TRUE(cache.grow(13, table));
  EXPECT_EQ(table.size(), 4u);
}

// Random sequences over a tiny alphabet, so that beginnings often agree. The plain model knows what
// was written to each block: the whole text up to its end, as the keys and values depend on it.
class CacheModel {
 public:
  CacheModel(uint32_t seed, bool keep_unused)
      : random_(seed),
        size_(1 + draw(4)),
        num_blocks_(4 + draw(30)),
        keep_unused_(keep_unused),
        cache_({num_blocks_, size_, keep_unused, seed}),
        written_(static_cast<size_t>(num_blocks_)) {}

  void run() {
    for (int step = 0; step < 400 && !testing::Test::HasFatalFailure(); ++step) {
      const int32_t choice = draw(10);
      if (choice < 3) {
        start();
      } else if (choice < 8 && !live_.empty()) {
        advance(live_[static_cast<size_t>(draw(static_cast<int32_t>(live_.size())))]);
      } else if (!live_.empty()) {
        release(static_cast<size_t>(draw(static_cast<int32_t>(live_.size()))));
      }
      check();
    }
    while (!live_.empty()) release(0);
    check();
    EXPECT_EQ(cache_.num_used(), 0);
    EXPECT_EQ(cache_.num_available(), num_blocks_);
  }

  int64_t num_shared() const { return num_shared_; }

 private:
  struct Live {
    std::vector<int32_t> tokens;
    int32_t num_computed = 0;
    std::vector<BlockId> table;
  };

  int32_t draw(int32_t limit) { return static_cast<int32_t>(random_() % limit); }

  void start() {
    Live live;
    const int32_t count = 1 + draw(size_ * 6);
    for (int32_t i = 0; i < count; ++i) live.tokens.push_back(draw(2));
    const int32_t limit = draw(3) == 0 ? draw(count) : count - 1;
    const int32_t reserve = draw(3);
    const int32_t available = cache_.num_available();
    const auto shared = cache_.start(live.tokens, limit, reserve, live.table);
    if (!shared) {
      ASSERT_LT(available, cache_.blocks_for(count) + reserve);
      ASSERT_EQ(cache_.num_available(), available);
      ASSERT_TRUE(live.table.empty());
      return;
    }
    ASSERT_GE(cache_.num_available(), reserve);
    ASSERT_LE(*shared, limit);
    ASSERT_EQ(*shared % size_, 0);
    live.num_computed = *shared;
    num_shared_ += *shared;
    live_.push_back(std::move(live));
  }

  void advance(Live& live) {
    const auto known = static_cast<int32_t>(live.tokens.size());
    if (live.num_computed == known) {
      if (!cache_.grow(known + 1, live.table)) {
        ASSERT_EQ(cache_.num_available(), 0);
        return;
      }
      live.tokens.push_back(draw(2));
    }
    const int32_t end =
        live.num_computed + 1 + draw(static_cast<int32_t>(live.tokens.size()) - live.num_computed);
    // The model run: writes each position's block, which nobody else may use.
    for (int32_t position = live.num_computed; position < end; ++position) {
      const BlockId block = live.table[static_cast<size_t>(position / size_)];
      ASSERT_EQ(cache_.num_users(block), 1) << "a shared block is written";
      written_[static_cast<size_t>(block)].assign(live.tokens.begin(),
                                                  live.tokens.begin() + position + 1);
    }
    cache_.publish(live.tokens, live.num_computed, end, live.table);
    live.num_computed = end;
  }

  void release(size_t i) {
    cache_.release(live_[i].table);
    live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  void check() {
    std::map<BlockId, int32_t> users;
    for (const Live& live : live_) {
      ASSERT_EQ(live.table.size(), cache_.blocks_for(std::ssize(live.tokens)));
      std::set<BlockId> own;
      for (size_t i = 0; i < live.table.size(); ++i) {
        const BlockId block = live.table[i];
        ASSERT_TRUE(own.insert(block).second);
        ++users[block];
        const auto begin = static_cast<int32_t>(i) * size_;
        const int32_t end = std::min(begin + size_, live.num_computed);
        if (end <= begin) continue;
        const auto& written = written_[static_cast<size_t>(block)];
        ASSERT_GE(std::ssize(written), end);
        ASSERT_TRUE(std::equal(written.begin(), written.begin() + end, live.tokens.begin()));
      }
    }
    ASSERT_EQ(cache_.num_used(), std::ssize(users));
    for (BlockId block = 0; block < num_blocks_; ++block) {
      ASSERT_EQ(cache_.num_users(block), users.contains(block) ? users[block] : 0);
    }
    ASSERT_TRUE(keep_unused_ || cache_.num_unused() == 0);
  }

  std::mt19937 random_;
  int32_t size_;
  int32_t num_blocks_;
  bool keep_unused_;
  PrefixCache cache_;
  std::vector<std::vector<int32_t>> written_;  // [N], the text a block's content depends on
  std::vector<Live> live_;
  int64_t num_shared_ = 0;
};

TEST(PrefixCacheTest, AgreesWithAPlainModel) {
  for (const bool keep_unused : {false, true}) {
    int64_t num_shared = 0;
    for (uint32_t seed = 0; seed < 300; ++seed) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << " keep_unused " << keep_unused);
      CacheModel model(seed, keep_unused);
      ASSERT_NO_FATAL_FAILURE(model.run());
      num_shared += model.num_shared();
    }
    EXPECT_GT(num_shared, 1000) << "the test hardly shares anything";
  }
}

}  // namespace
}  // namespace sluice::kv_cache
