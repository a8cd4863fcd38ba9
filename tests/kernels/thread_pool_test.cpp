#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "kernels/compute.h"

namespace sluice::kernels {
namespace {

TEST(ThreadPoolTest, RunsEachTaskOnce) {
  for (int num_threads : {1, 2, 4}) {
    ThreadPool pool(num_threads);
    EXPECT_EQ(pool.num_threads(), num_threads);
    for (int64_t num_tasks : {0, 1, 2, 3, 7, 1000, 65535, 65536, 200000}) {
      std::vector<int> runs(num_tasks, 0);  // a race here is a task run twice
      pool.run(num_tasks, [&](int64_t task) { ++runs[task]; });
      for (int count : runs) ASSERT_EQ(count, 1);
    }
  }
}

// A thread that is held up in its first task leaves the rest of its range to the others.
TEST(ThreadPoolTest, OthersTakeWhatAThreadLeaves) {
  for (const int num_threads : {2, 4}) {
    ThreadPool pool(num_threads);
    constexpr int64_t kTasks = 100;
    for (const int64_t held_up : {int64_t{0}, kTasks / num_threads}) {  // the caller's, a worker's
      std::atomic<int64_t> num_done{0};
      pool.run(kTasks, [&](int64_t task) {
        while (task == held_up && num_done.load() < kTasks - 1) std::this_thread::yield();
        ++num_done;
      });
      EXPECT_EQ(num_done.load(), kTasks);
    }
  }
}

// Loops follow each other at every pace: workers spinning, about to park, parked.
TEST(ThreadPoolTest, ManyLoopsInARow) {
  ThreadPool pool(3);
  std::vector<int64_t> values(64, 0);
  for (int loop = 0; loop < 20000; ++loop) {
    const int64_t num_tasks = 1 + loop % 64;
    pool.run(num_tasks, [&](int64_t task) { values[task] += loop; });
    if (loop % 1000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  int64_t expected = 0;
  for (int loop = 0; loop < 20000; ++loop) expected += loop;
  EXPECT_EQ(values[0], expected);
}

TEST(ThreadPoolTest, WhatALoopWroteIsSeenByTheNext) {
  ThreadPool pool(2);
  std::vector<int64_t> values(128, 1);
  for (int loop = 0; loop < 2000; ++loop) {
    std::vector<int64_t> next(values.size());
    pool.run(128, [&](int64_t i) { next[i] = values[(i + 1) % 128] + 1; });
    values.swap(next);
  }
  for (int64_t value : values) EXPECT_EQ(value, 2001);
}

TEST(ThreadPoolTest, ALoopInsideATaskRunsOnItsThread) {
  ThreadPool pool(2);
  const ComputeScope scope(pool);
  std::atomic<int> count{0};
  parallel_for(8, [&](int64_t) { parallel_for(8, [&](int64_t) { ++count; }); });
  EXPECT_EQ(count, 64);
  EXPECT_EQ(current_pool(), &pool);
}

TEST(ThreadPoolTest, RunsOnEachThreadOnce) {
  for (const int num_threads : {1, 2, 5}) {
    ThreadPool pool(num_threads);
    std::mutex mutex;
    std::set<std::thread::id> seen;
    int num_calls = 0;
    for (int round = 0; round < 20; ++round) {
      pool.run_on_each([&] {
        const std::lock_guard lock(mutex);
        seen.insert(std::this_thread::get_id());
        ++num_calls;
      });
    }
    EXPECT_EQ(seen.size(), static_cast<size_t>(num_threads));
    EXPECT_EQ(num_calls, 20 * num_threads);
  }
}

TEST(ThreadPoolTest, ScopesNestAndEnd) {
  EXPECT_EQ(current_pool(), nullptr);
  ThreadPool outer(1), inner(2);
  {
    const ComputeScope first(outer);
    {
      const ComputeScope second(inner);
      EXPECT_EQ(current_pool(), &inner);
    }
    EXPECT_EQ(current_pool(), &outer);
    std::thread([] { EXPECT_EQ(current_pool(), nullptr); }).join();
  }
  EXPECT_EQ(current_pool(), nullptr);
  int count = 0;
  parallel_for(3, [&](int64_t) { ++count; });
  EXPECT_EQ(count, 3);
}

TEST(ThreadPoolTest, StopsWhileWorkersSpinOrPark) {
  for (int i = 0; i < 50; ++i) {
    ThreadPool pool(4);
    if (i % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
}

}  // namespace
}  // namespace sluice::kernels
