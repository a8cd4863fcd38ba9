#include <gtest/gtest.h>

#include <array>

#include "sampling/token_counts.h"
#include "tests/sampling/rows.h"

namespace sluice::sampling {
namespace {

SamplingParams greedy() {
  SamplingParams params;
  params.temperature = 0;
  return params;
}

int32_t draw_with(std::vector<float> row, const SamplingParams& params, const TokenCounts& counts) {
  RowTask task = task_of(row, params);
  task.counts = &counts;
  return sample_one(task, static_cast<int32_t>(row.size())).token_id;
}

TEST(TokenCountsTest, CountsGeneratedAndKnowsPrompt) {
  TokenCounts counts;
  counts.add_prompt(std::array{5, 3, 5});
  counts.add_generated(9);
  counts.add_generated(3);
  counts.add_generated(9);
  counts.add_prompt(std::array{9, 1});
  std::vector<std::pair<int32_t, int32_t>> entries;
  for (const auto& entry : counts.entries()) {
    entries.emplace_back(entry.token_id, entry.num_generated);
  }
  EXPECT_EQ(entries, (std::vector<std::pair<int32_t, int32_t>>{{1, 0}, {3, 1}, {5, 0}, {9, 2}}));
}

TEST(PenaltiesTest, RepetitionDividesPositiveAndMultipliesNegative) {
  SamplingParams params = greedy();
  params.repetition_penalty = 2;
  TokenCounts counts;
  counts.add_prompt(std::array{0});
  EXPECT_EQ(draw_with({4, 1.9f}, params, counts), 0);
  EXPECT_EQ(draw_with({4, 2.1f}, params, counts), 1);
  EXPECT_EQ(draw_with({-1, -1.9f}, params, counts), 1);
  EXPECT_EQ(draw_with({-1, -2.1f}, params, counts), 0);
}

TEST(PenaltiesTest, PresenceAndFrequencyLeaveThePromptAlone) {
  TokenCounts prompt_only;
  prompt_only.add_prompt(std::array{0, 0});
  TokenCounts generated_twice = prompt_only;
  generated_twice.add_generated(0);
  generated_twice.add_generated(0);

  SamplingParams presence = greedy();
  presence.presence_penalty = 1;
  EXPECT_EQ(draw_with({2, 1.5f}, presence, prompt_only), 0);
  EXPECT_EQ(draw_with({2, 1.5f}, presence, generated_twice), 1);
  EXPECT_EQ(draw_with({2, 0.9f}, presence, generated_twice), 0);

  SamplingParams frequency = greedy();
  frequency.frequency_penalty = 0.5f;
  EXPECT_EQ(draw_with({2, 1.5f}, frequency, prompt_only), 0);
  EXPECT_EQ(draw_with({2, 1.1f}, frequency, generated_twice), 1);
  EXPECT_EQ(draw_with({2, 0.9f}, frequency, generated_twice), 0);
}

TEST(PenaltiesTest, BiasComesAfterThePenalties) {
  SamplingParams params = greedy();
  params.repetition_penalty = 2;
  params.logit_bias = {{0, 1.0f}};
  TokenCounts counts;
  counts.add_prompt(std::array{0});
  EXPECT_EQ(draw_with({4, 2.9f}, params, counts), 0);  // 4 / 2 + 1 = 3, not (4 + 1) / 2
  EXPECT_EQ(draw_with({4, 3.1f}, params, counts), 1);
}

TEST(PenaltiesTest, ForbiddenIdsAreNotDrawnAndTheRowComesBackUnchanged) {
  std::vector<float> row = {5, 4, 3};
  const auto before = row;
  SamplingParams params = greedy();
  params.logit_bias = {{0, 100.0f}};
  const std::array forbidden = {0, 1};
  RowTask task = task_of(row, params);
  task.forbidden = forbidden;
  task.num_logprobs = 2;
  const RowResult result = sample_one(task, 3);
  EXPECT_EQ(result.token_id, 2);
  EXPECT_EQ(row, before);
  ASSERT_EQ(result.top.size(), 2u);
  EXPECT_EQ(result.top[0].token_id, 0);  // logprobs are the model's own
}

TEST(PenaltiesTest, NothingLeftIsAFault) {
  std::vector<float> row = {5, 4, 3};
  SamplingParams params;
  for (const int32_t id : {0, 1, 2}) params.logit_bias.emplace_back(id, kMinusInfinity);
  EXPECT_EQ(sample_one(row, params).fault, RowFault::kNothingLeft);
}

TEST(PenaltiesTest, ARowThatIsEmptyFromTheStartIsTheModelsFault) {
  std::vector<float> row(3, kMinusInfinity);
  EXPECT_EQ(sample_one(row, SamplingParams{}).fault, RowFault::kNotFinite);
}

TEST(PenaltiesTest, OverflowIsAFault) {
  std::vector<float> row = {3e38f, 4, 3};
  SamplingParams params;
  params.repetition_penalty = 0.01f;
  TokenCounts counts;
  counts.add_prompt(std::array{0});
  RowTask task = task_of(row, params);
  task.counts = &counts;
  EXPECT_EQ(sample_one(task, 3).fault, RowFault::kNotFinite);
}

}  // namespace
}  // namespace sluice::sampling
