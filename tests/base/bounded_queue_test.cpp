#include "base/bounded_queue.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace sluice::base {
namespace {

using std::chrono::hours;
using std::chrono::nanoseconds;

TEST(BoundedQueueTest, RefusesAtOnceWhenFull) {
  BoundedQueue<std::unique_ptr<int>> queue(2);
  EXPECT_TRUE(queue.try_push(std::make_unique<int>(1)));
  EXPECT_TRUE(queue.try_push(std::make_unique<int>(2)));
  auto third = std::make_unique<int>(3);
  EXPECT_FALSE(queue.try_push(std::move(third)));
  EXPECT_NE(third, nullptr) << "a refused item stays with its owner";
  std::vector<std::unique_ptr<int>> items;
  queue.pop_all(items);
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(*items[0], 1);
  EXPECT_EQ(*items[1], 2);
  EXPECT_TRUE(queue.try_push(std::move(third)));
  EXPECT_EQ(queue.size(), 1u);
}

TEST(BoundedQueueTest, PopReplacesTheItems) {
  BoundedQueue<int> queue(2);
  std::vector<int> items = {7, 8, 9};
  queue.pop_all(items);
  EXPECT_TRUE(items.empty());
}

TEST(BoundedQueueTest, WaitEndsWithTheTimeout) {
  BoundedQueue<int> queue(1);
  std::vector<int> items;
  queue.wait_pop_all(items, nanoseconds(1));
  EXPECT_TRUE(items.empty());
}

TEST(BoundedQueueTest, AWakeUpBeforeTheWaitIsNotLost) {
  BoundedQueue<int> queue(1);
  std::vector<int> items;
  queue.wake();
  queue.wait_pop_all(items, hours(1));
  EXPECT_TRUE(items.empty());
}

TEST(BoundedQueueTest, AClosedQueueRefusesAndIsDrained) {
  BoundedQueue<int> queue(4);
  EXPECT_TRUE(queue.try_push(1));
  queue.close();
  EXPECT_FALSE(queue.try_push(2));
  std::vector<int> items;
  queue.wait_pop_all(items, hours(1));
  EXPECT_EQ(items, std::vector<int>{1});
  queue.wait_pop_all(items, hours(1));
  EXPECT_TRUE(items.empty());
}

// Every item of every producer arrives once and in its producer's order; also for tsan.
TEST(BoundedQueueTest, ManyProducersOneConsumer) {
  constexpr int64_t kProducers = 4;
  constexpr int64_t kItems = 5000;
  BoundedQueue<int64_t> queue(16);
  std::vector<std::thread> producers;
  for (int64_t producer = 0; producer < kProducers; ++producer) {
    producers.emplace_back([&queue, producer] {
      for (int64_t i = 0; i < kItems; ++i) {
        while (!queue.try_push(producer * kItems + i)) std::this_thread::yield();
      }
    });
  }
  std::vector<int64_t> next(kProducers, 0);
  std::vector<int64_t> items;
  for (int64_t num_taken = 0; num_taken < kProducers * kItems;) {
    queue.wait_pop_all(items, hours(1));
    EXPECT_LE(items.size(), 16u);
    for (const int64_t item : items) {
      EXPECT_EQ(item % kItems, next[static_cast<size_t>(item / kItems)]++);
    }
    num_taken += std::ssize(items);
  }
  for (std::thread& producer : producers) producer.join();
  EXPECT_EQ(queue.size(), 0u);
}

}  // namespace
}  // namespace sluice::base
