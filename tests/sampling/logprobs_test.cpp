#include <gtest/gtest.h>

#include <algorithm>

#include "sampling/row.h"
#include "tests/sampling/rows.h"

namespace sluice::sampling {
namespace {

double exact_logprob(const std::vector<float>& row, int32_t token) {
  const double max = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float x : row) sum += std::exp(x - max);
  return row[static_cast<size_t>(token)] - max - std::log(sum);
}

TEST(LogprobsTest, ScoresAGivenToken) {
  auto row = random_row(30000, 3, 11);
  const SamplingParams params;
  for (const int32_t token : {0, 127, 128, 29999}) {
    RowTask task = task_of(row, params);
    task.scored_token = token;
    task.num_logprobs = 0;
    const RowResult result = sample_one(task, 30000);
    EXPECT_EQ(result.token_id, token);
    EXPECT_NEAR(result.logprob, exact_logprob(row, token), 2e-6);
    EXPECT_TRUE(result.top.empty());
  }
}

TEST(LogprobsTest, TopIsSortedWithTiesById) {
  auto row = random_row(3000, 1, 12, 0.5f);
  SamplingParams params;
  params.temperature = 0.3f;  // logprobs do not see it
  RowTask task = task_of(row, params);
  task.num_logprobs = 20;
  const RowResult result = sample_one(task, 3000);
  ASSERT_EQ(result.top.size(), 20u);
  std::vector<int32_t> order(3000);
  for (int32_t i = 0; i < 3000; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return row[a] > row[b]; });
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(result.top[i].token_id, order[i]);
    EXPECT_NEAR(result.top[i].logprob, exact_logprob(row, order[i]), 2e-6);
  }
  EXPECT_NEAR(result.logprob, exact_logprob(row, result.token_id), 2e-6);
}

TEST(LogprobsTest, MoreThanTheVocabulary) {
  std::vector<float> row = {1, 3, 2};
  const SamplingParams params;
  RowTask task = task_of(row, params);
  task.num_logprobs = 20;
  EXPECT_EQ(sample_one(task, 3).top.size(), 3u);
}

TEST(LogprobsTest, NaturalLog) {
  for (double x = 1; x < 1e8; x *= 1.0173) {
    EXPECT_NEAR(natural_log(x), std::log(x), 4e-16 * (1 + std::log(x))) << x;
  }
}

}  // namespace
}  // namespace sluice::sampling
