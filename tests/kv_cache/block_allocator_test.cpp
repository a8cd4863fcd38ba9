#include "kv_cache/block_allocator.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

namespace sluice::kv_cache {
namespace {

TEST(BlockAllocatorTest, AllocatesAllOrNone) {
  BlockAllocator allocator(3);
  std::vector<BlockId> blocks;
  EXPECT_FALSE(allocator.try_allocate(4, blocks));
  EXPECT_TRUE(blocks.empty());
  EXPECT_EQ(allocator.num_free(), 3);
  EXPECT_TRUE(allocator.try_allocate(3, blocks));
  EXPECT_EQ(std::set<BlockId>(blocks.begin(), blocks.end()), (std::set<BlockId>{0, 1, 2}));
  EXPECT_FALSE(allocator.try_allocate(1, blocks));
  EXPECT_TRUE(allocator.try_allocate(0, blocks));
  EXPECT_EQ(blocks.size(), 3u);
}

TEST(BlockAllocatorTest, FreesWithTheLastUser) {
  BlockAllocator allocator(1);
  std::vector<BlockId> blocks;
  ASSERT_TRUE(allocator.try_allocate(1, blocks));
  allocator.add_user(blocks[0]);
  EXPECT_FALSE(allocator.release(blocks[0]));
  EXPECT_EQ(allocator.num_free(), 0);
  EXPECT_TRUE(allocator.release(blocks[0]));
  EXPECT_EQ(allocator.num_free(), 1);
}

TEST(BlockAllocatorTest, EmptyPool) {
  BlockAllocator allocator(0);
  std::vector<BlockId> blocks;
  EXPECT_TRUE(allocator.try_allocate(0, blocks));
  EXPECT_FALSE(allocator.try_allocate(1, blocks));
}

// Random operations against a map from block to users.
TEST(BlockAllocatorTest, AgreesWithAPlainModel) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const auto draw = [&](int32_t limit) { return static_cast<int32_t>(random() % limit); };
    const int32_t num_blocks = 1 + draw(40);
    BlockAllocator allocator(num_blocks);
    std::map<BlockId, int32_t> users;
    const auto any_used = [&] { return std::next(users.begin(), draw(users.size()))->first; };
    for (int step = 0; step < 500; ++step) {
      const int32_t choice = draw(3);
      if (choice == 0) {
        const int32_t count = draw(6);
        std::vector<BlockId> blocks;
        const bool fits = count <= num_blocks - static_cast<int32_t>(users.size());
        ASSERT_EQ(allocator.try_allocate(count, blocks), fits);
        ASSERT_EQ(blocks.size(), fits ? count : 0u);
        for (const BlockId block : blocks) {
          ASSERT_TRUE(block >= 0 && block < num_blocks);
          ASSERT_TRUE(users.emplace(block, 1).second) << "block " << block << " handed out twice";
        }
      } else if (choice == 1 && !users.empty()) {
        const BlockId block = any_used();
        allocator.add_user(block);
        ++users[block];
      } else if (!users.empty()) {
        const BlockId block = any_used();
        const bool is_last = --users[block] == 0;
        if (is_last) users.erase(block);
        ASSERT_EQ(allocator.release(block), is_last);
      }
      ASSERT_EQ(allocator.num_free(), num_blocks - static_cast<int32_t>(users.size()));
      for (BlockId block = 0; block < num_blocks; ++block) {
        ASSERT_EQ(allocator.num_users(block), users.contains(block) ? users[block] : 0);
      }
    }
  }
}

}  // namespace
}  // namespace sluice::kv_cache
