#include <gtest/gtest.h>

#include "cli/bench_run.h"
#include "tests/cli/fake_runtime.h"

namespace sluice::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Streams with tokens at the given milliseconds after the start.
BenchRun run_at(const std::vector<std::vector<int>>& streams) {
  BenchRun run;
  run.start = steady_clock::time_point(std::chrono::seconds(100));
  for (const auto& times : streams) {
    StreamTimes stream;
    for (const int time : times) {
      stream.tokens.push_back(run.start + milliseconds(time));
      stream.token_ids.push_back(0);
    }
    run.streams.push_back(stream);
  }
  return run;
}

TEST(BenchFiguresTest, OneStream) {
  const BenchFigures found = figures(run_at({{100, 110, 120, 130}}), 50);
  EXPECT_DOUBLE_EQ(found.prefill_tokens_per_s, 500);
  EXPECT_DOUBLE_EQ(found.decode_tokens_per_s, 100);
  EXPECT_EQ(found.ttft_ms.size(), 1);
  EXPECT_DOUBLE_EQ(found.ttft_ms[0], 100);
  EXPECT_EQ(found.itl_ms, (std::vector<double>{10, 10, 10}));
}

// Only the time in which both streams decode counts: from 50 ms (the later first token) to 70 ms.
TEST(BenchFiguresTest, NeitherPrefillNorTheRaggedEndCounts) {
  const BenchFigures found = figures(run_at({{20, 40, 60, 70}, {50, 60, 70, 90}}), 10);
  EXPECT_DOUBLE_EQ(found.prefill_tokens_per_s, 20 / 0.05);
  EXPECT_DOUBLE_EQ(found.decode_tokens_per_s, 4 / 0.02);
}

TEST(BenchFiguresTest, TokensThatComeTogetherShareTheTime) {
  const BenchFigures found = figures(run_at({{10, 40, 40, 40}}), 1);
  ASSERT_EQ(found.itl_ms.size(), 3);
  for (const double itl : found.itl_ms) EXPECT_NEAR(itl, 10, 1e-9);
}

TEST(BenchFiguresTest, OneTokenHasNoDecodeRate) {
  EXPECT_EQ(figures(run_at({{10}, {10}}), 1).decode_tokens_per_s, 0);
}

TEST(BenchRunTest, PromptsAreFixedByTheirSeed) {
  EXPECT_EQ(random_prompt(1, 2, 8, 1000), random_prompt(1, 2, 8, 1000));
  EXPECT_NE(random_prompt(1, 2, 8, 1000), random_prompt(1, 3, 8, 1000));
  for (const int64_t id : random_prompt(1, 2, 1000, 7)) {
    EXPECT_GE(id, 0);
    EXPECT_LT(id, 7);
  }
}

}  // namespace
}  // namespace sluice::cli
