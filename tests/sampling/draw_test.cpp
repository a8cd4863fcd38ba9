#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/sampling/rows.h"

namespace sluice::sampling {
namespace {

TEST(GreedyTest, TakesTheLargestAndOfEqualOnesTheLowest) {
  auto row = random_row(70000, 1, 5);
  SamplingParams params;
  params.temperature = 0;
  const auto largest = std::max_element(row.begin(), row.end()) - row.begin();
  EXPECT_EQ(sample_one(row, params).token_id, largest);
  row[69999] = row[333] = row[largest] + 1;
  EXPECT_EQ(sample_one(row, params).token_id, 333);
}

TEST(GreedyTest, MinusZeroEqualsZero) {
  std::vector<float> row = {-1, -0.0f, 0.0f, -2};
  SamplingParams params;
  params.temperature = 0;
  EXPECT_EQ(sample_one(row, params).token_id, 1);
}

TEST(GreedyTest, BelowTheThresholdNothingIsDrawn) {
  auto row = random_row(1000, 0.001f, 6);
  SamplingParams params;
  params.temperature = std::nextafter(kGreedyTemperature, 0.0f);
  const int32_t token = sample_one(row, params, 0).token_id;
  for (uint32_t position = 1; position < 50; ++position) {
    EXPECT_EQ(sample_one(row, params, position).token_id, token);
  }
}

// Pearson's chi-square over the likeliest 40 ids and the rest. With 40 degrees of freedom a value
// above 73.4 has a chance of 0.1 %.
double chi_square(std::vector<float>& row, const SamplingParams& params, int num_draws) {
  std::vector<double> expected(row.size());
  for (size_t i = 0; i < row.size(); ++i) expected[i] = std::exp(row[i] / params.temperature);
  const double all = std::accumulate(expected.begin(), expected.end(), 0.0);
  std::vector<int> observed(row.size());
  for (int i = 0; i < num_draws; ++i) {
    ++observed[sample_one(row, params, static_cast<uint32_t>(i)).token_id];
  }
  std::vector<int> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int a, int b) { return row[a] > row[b]; });
  double sum = 0;
  double rest_expected = num_draws;
  int rest_observed = num_draws;
  for (int i = 0; i < 40; ++i) {
    const double wanted = expected[order[i]] / all * num_draws;
    const int got = observed[order[i]];
    sum += (got - wanted) * (got - wanted) / wanted;
    rest_expected -= wanted;
    rest_observed -= got;
  }
  return sum + (rest_observed - rest_expected) * (rest_observed - rest_expected) / rest_expected;
}

TEST(DrawTest, FrequenciesFollowTheDistribution) {
  auto row = random_row(2000, 1.5f, 7);
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SamplingParams params;
    params.temperature = 0.8f;
    params.seed = seed;
    EXPECT_LT(chi_square(row, params, 40000), 73.4) << "seed " << seed;
  }
}

TEST(DrawTest, CompletionsOfOneSeedDiffer) {
  auto row = random_row(2000, 1, 8);
  SamplingParams params;
  params.seed = 99;
  std::array<std::vector<int32_t>, 2> tokens;
  for (uint32_t index = 0; index < 2; ++index) {
    for (uint32_t position = 0; position < 30; ++position) {
      RowTask task = task_of(row, params);
      task.completion_index = index;
      task.position = position;
      tokens[index].push_back(sample_one(task, 2000).token_id);
    }
  }
  EXPECT_NE(tokens[0], tokens[1]);
}

TEST(DrawTest, ExtremeLogitsAreServed) {
  std::vector<float> row = {3e38f, -3e38f, 3e38f, kMinusInfinity, 0};
  for (const float temperature : {0.0f, 1e-5f, 1.0f, 1e38f}) {
    SamplingParams params;
    params.temperature = temperature;
    const RowResult result = sample_one(row, params);
    EXPECT_EQ(result.fault, RowFault::kNone);
    EXPECT_TRUE(result.token_id != 3) << temperature;
  }
}

}  // namespace
}  // namespace sluice::sampling
