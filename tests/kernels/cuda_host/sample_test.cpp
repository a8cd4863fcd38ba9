#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/device/kernels.h"
#include "kernels/cuda/device/sample_math.cuh"
#include "sample_rows.h"
#include "sampling/row.h"
#include "sampling/row_kernels.h"
#include "with_schedule.h"

// The device's sampler against the host's, bit for bit.
namespace sluice::kernels::cuda {
namespace {

using host::describe;
using host::Device;
using host::expect_host_equals_device;
using host::expect_same;
using host::Row;
using host::sample_on_device;
using sampling::RowFault;
using sampling::RowResult;
using sampling::SamplingParams;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Random rows: logits of many kinds and all parameters.
class Generator final {
 public:
  explicit Generator(uint32_t seed) : engine_(seed) {}

  Row row(int32_t size) {
    Row made;
    made.logits = logits(size);
    SamplingParams& params = made.params;
    params.temperature =
        one_of({0.0f, 9e-6f, 1e-5f, 1e-3f, 0.3f, 0.7f, 1.0f, 1.0f, 1.5f, 100.0f, 1e20f, 3e38f});
    params.top_k = chance(0.5) ? 0 : top_k(size);
    params.top_p =
        chance(0.4) ? 1.0f : one_of({0.9f, 0.95f, 0.5f, 0.1f, 1e-9f, 0.999f, 0.9999999f, share()});
    params.min_p = chance(0.6) ? 0.0f : one_of({0.05f, 1.0f, 0.5f, 1e-4f, 1e-9f, 1e-30f, share()});
    params.seed = engine_() | uint64_t{engine_()} << 32;
    made.completion_index = engine_();
    made.position = engine_();
    if (chance(0.4)) add_edits(made, size);
    if (chance(0.4)) made.num_logprobs = one_of({0, 1, 2, 5, 20, 20});
    if (chance(0.03)) made.num_logprobs = between(1, size + 5);
    if (chance(0.1)) made.scored_token = between(0, size - 1);
    return made;
  }

  std::vector<float> logits(int32_t size) {
    std::vector<float> z(static_cast<size_t>(size));
    fill(z);
    if (chance(0.2)) {
      const int32_t begin = between(0, size - 1);
      const int32_t end = between(begin, size);
      std::fill(z.begin() + begin, z.begin() + end, -kInfinity);
    }
    if (chance(0.3)) {
      for (int i = between(1, 20); i > 0; --i) at_random(z) += 12 * share();
    }
    if (chance(0.03)) at_random(z) = one_of({kNaN, -kNaN, kInfinity});
    if (chance(0.02)) std::fill(z.begin(), z.end(), -kInfinity);
    if (chance(0.05)) at_random(z) = one_of({3e38f, -3e38f, 1e30f, -0.0f, 1e-42f});
    return z;
  }

 private:
  bool chance(double probability) { return share() < probability; }
  float share() { return std::uniform_real_distribution<float>(0, 1)(engine_); }
  int32_t between(int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(engine_);
  }
  template <typename T>
  T one_of(std::initializer_list<T> values) {
    return values.begin()[between(0, static_cast<int32_t>(values.size()) - 1)];
  }
  template <typename T>
  T& at_random(std::vector<T>& values) {
    return values[static_cast<size_t>(between(0, static_cast<int32_t>(values.size()) - 1))];
  }

  int32_t top_k(int32_t size) {
    const int32_t k = one_of({1, 2, 3, 50, between(1, size), between(1, size), size, size - 1});
    return std::clamp(k, 1, size);
  }

  void fill(std::vector<float>& z) {
    std::normal_distribution<float> normal(one_of({0.0f, 10.0f, -20.0f}),
                                           one_of({0.01f, 0.3f, 1.0f, 3.0f, 10.0f}));
    const float step = one_of({0.0f, 0.0f, 0.5f, 4.0f});
    const bool is_constant = chance(0.05);
    const bool ascends = chance(0.05);
    for (float& x : z) {
      x = is_constant ? 1.25f : normal(engine_);
      if (step > 0) x = std::round(x / step) * step;  // many tie, and some are -0
    }
    if (ascends) std::sort(z.begin(), z.end());
  }

  void add_edits(Row& row, int32_t size) {
    SamplingParams& params = row.params;
    if (chance(0.5)) {
      params.repetition_penalty = one_of({1.0f, 1.3f, 0.5f, 100.0f});
      params.presence_penalty = one_of({0.0f, 0.7f, -2.0f});
      params.frequency_penalty = one_of({0.0f, 0.1f, -1.0f});
      std::vector<int32_t> prompt(static_cast<size_t>(one_of({1, 5, 60, 3000})));
      for (int32_t& id : prompt) id = between(0, size - 1);
      row.counts.add_prompt(prompt);
      for (int i = one_of({0, 3, 100}); i > 0; --i) row.counts.add_generated(between(0, size - 1));
    }
    if (chance(0.5)) {
      for (int i = one_of({1, 10, 300}); i > 0; --i) {
        const float bias = one_of({-kInfinity, -100.0f, 100.0f, 1.0f, 2 * share()});
        params.logit_bias.emplace_back(between(0, size - 1), bias);
      }
      std::ranges::sort(params.logit_bias);
      const auto twice =
          std::ranges::unique(params.logit_bias, {}, [](auto& b) { return b.first; });
      params.logit_bias.erase(twice.begin(), twice.end());
    }
    if (chance(0.5)) {
      for (int i = one_of({1, 4, 40}); i > 0; --i) row.forbidden.push_back(between(0, size - 1));
    }
    if (chance(0.05)) {
      row.forbidden.resize(static_cast<size_t>(size));
      std::iota(row.forbidden.begin(), row.forbidden.end(), 0);
    }
  }

  std::mt19937 engine_;
};

class SampleOnDevice : public host::WithSchedule {};

INSTANTIATE_TEST_SUITE_P(Schedules, SampleOnDevice, host::schedules(), host::schedule_name);

// The token is new to the row, before, between and behind its others; or one of them.
TEST_P(SampleOnDevice, CountsWhatTheStepBeforeHasDrawn) {
  constexpr int32_t kSize = 400;
  Generator random(77);
  for (const int32_t num_counts : {1, 2, 31, 32, 33, 64, 200}) {
    std::vector<Row> rows;
    for (const int32_t token : {0, 1, 2, num_counts, 2 * num_counts - 1, kSize - 2, kSize - 1}) {
      Row& row = rows.emplace_back();
      row.logits.resize(kSize);
      for (size_t i = 0; i < row.logits.size(); ++i) row.logits[i] = 0.01f * static_cast<float>(i);
      row.logits[static_cast<size_t>(token)] = 7;  // the likeliest until it is counted
      row.params.temperature = 0;
      row.params.repetition_penalty = 1.3f;
      row.params.frequency_penalty = 1.5f;
      std::vector<int32_t> prompt;
      for (int32_t i = 0; i < num_counts; ++i) prompt.push_back(2 * i + 1);  // odd ones
      row.counts.add_prompt(prompt);
      row.being_drawn = token;
    }
    rows.push_back(rows[0]);
    rows.back().being_drawn = -1;  // has no token under way
    expect_host_equals_device(rows);
  }
  for (int i = 0; i < 40; ++i) {
    std::vector<Row> rows;
    for (int r = 0; r < 4; ++r) {
      Row row = random.row(kSize);
      if (sampling::uses_counts(row.params)) row.being_drawn = (i * 37 + r * 101) % kSize;
      rows.push_back(std::move(row));
    }
    expect_host_equals_device(rows);
  }
}

TEST_P(SampleOnDevice, TokensComeFromTheStepBefore) {
  const Device drawn(std::vector<SampleResult>{
      {.token_id = 70}, {.fault = SampleFault::kNothingLeft, .token_id = 71}, {.token_id = 72}});
  std::vector<int32_t> given(300, 9);
  given[0] = -1;
  given[1] = -3;
  given[128] = -2;  // a fault
  given[299] = -4;  // of no row
  given[200] = 0;
  const Device tokens(given);
  const FeedTokensArgs args{
      .tokens = tokens.data(), .num_tokens = 300, .drawn = drawn.data(), .num_drawn = 3};
  ASSERT_EQ(feed_tokens(args, nullptr), kSuccess) << host::last_failure();
  given[0] = 70;
  given[1] = 72;
  given[128] = -1;
  given[299] = -1;
  EXPECT_EQ(tokens.copy(), given);
}

void compare_random_rows(int32_t size, int num_rounds, int num_rows) {
  for (int round = 0; round < num_rounds; ++round) {
    const auto seed = static_cast<uint32_t>(1000 * size + round);
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Generator generator(seed);
    std::vector<Row> rows;
    for (int i = 0; i < num_rows; ++i) rows.push_back(generator.row(size));
    ASSERT_NO_FATAL_FAILURE(expect_host_equals_device(rows));
  }
}

TEST_P(SampleOnDevice, RandomRowsOfFew) {
  for (const int32_t size : {1, 2, 3, 31, 32, 33, 255, 256, 257}) compare_random_rows(size, 5, 20);
}

TEST_P(SampleOnDevice, RandomRowsOfAChunkAndMore) {
  for (const int32_t size : {1000, 1024, 1025, 5003}) compare_random_rows(size, 6, 10);
}

// The candidates are fewer than the elements: cuts are guessed at, and guesses fail.
TEST_P(SampleOnDevice, RandomRowsOfMoreThanAllCandidates) {
  for (const int32_t size : {8193, 10000, 32000}) compare_random_rows(size, 6, 10);
}

// Chunks of more than 1024 elements.
TEST_P(SampleOnDevice, RandomRowsOfAMillionAndMore) {
  compare_random_rows((1 << 20) + 77, 1, 4);
}

// A row for every kind of work, of which the last has its list's results sorted in device memory.
std::vector<Row> crowd(int32_t size) {
  Generator generator(7);
  std::vector<Row> rows(9);
  for (size_t i = 0; i < rows.size(); ++i) {
    Row& row = rows[i];
    while (row.logits.empty() || !std::isfinite(*std::ranges::max_element(row.logits)) ||
           std::isnan(std::accumulate(row.logits.begin(), row.logits.end(), 0.0f))) {
      row.logits = generator.logits(size);
    }
    row.params.seed = i;
    row.position = static_cast<uint32_t>(i);
  }
  rows[0].params.temperature = 0;
  rows[2].params.top_k = 40;
  rows[3].params.top_p = 0.9f;
  rows[4].params.min_p = 0.1f;
  rows[5].params.top_k = size / 2;
  rows[5].params.top_p = 0.95f;
  rows[6].params.logit_bias = {{3, 1.5f}, {size - 1, -kInfinity}};
  rows[6].num_logprobs = 5;
  rows[7].scored_token = size / 3;
  rows[7].num_logprobs = 0;
  rows[8].num_logprobs = std::min(size, 3000);
  return rows;
}

TEST_P(SampleOnDevice, ARowAloneAsInACrowd) {
  std::vector<Row> rows = crowd(9001);
  expect_host_equals_device(rows);
  const std::vector<RowResult> together = sample_on_device(rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    SCOPED_TRACE(describe(rows[i]));
    expect_same(together[i], sample_on_device({rows[i]})[0], rows[i]);
  }
}

TEST_P(SampleOnDevice, AFaultyRowEndsAloneAndItsNeighboursKeepTheirBits) {
  std::vector<Row> rows = crowd(2053);
  const std::vector<RowResult> before = sample_on_device(rows);
  for (const float poison : {kNaN, -kNaN, kInfinity}) {
    for (const size_t place : {0, 1023, 1024, 2052}) {
      for (const size_t faulty : {0, 1, 3, 7, 8}) {
        std::vector<Row> poisoned = rows;
        poisoned[faulty].logits[place] = poison;
        const std::vector<RowResult> after = sample_on_device(poisoned);
        for (size_t i = 0; i < rows.size(); ++i) {
          SCOPED_TRACE(describe(rows[i]));
          if (i != faulty) expect_same(before[i], after[i], rows[i]);
        }
        EXPECT_EQ(after[faulty].fault, RowFault::kNotFinite) << faulty;
      }
    }
  }
}

TEST_P(SampleOnDevice, ARowWithNothingLeft) {
  std::vector<Row> rows = crowd(700);
  rows[1].logits.assign(700, -kInfinity);
  rows[2].forbidden.resize(700);
  std::iota(rows[2].forbidden.begin(), rows[2].forbidden.end(), 0);
  rows[3].logits[5] = kNaN;  // forbidden: it does no harm, but there are logprobs to be computed
  rows[3].forbidden = {5, 5};
  rows[4].logits[5] = kNaN;
  rows[4].forbidden = {5};
  rows[4].num_logprobs = 0;
  expect_host_equals_device(rows);
  const std::vector<RowResult> results = sample_on_device(rows);
  EXPECT_EQ(results[1].fault, RowFault::kNotFinite);
  EXPECT_EQ(results[2].fault, RowFault::kNothingLeft);
  EXPECT_EQ(results[3].fault, RowFault::kNone);
  EXPECT_EQ(results[4].fault, RowFault::kNotFinite);
}

TEST_P(SampleOnDevice, TiesGoByTheirIds) {
  for (const int32_t size : {100, 3000, 20000}) {
    std::vector<Row> rows;
    for (uint32_t i = 0; i < 12; ++i) {
      Row row;
      row.logits.assign(static_cast<size_t>(size), i % 3 == 0 ? 0.0f : -kInfinity);
      for (size_t id = i; id < row.logits.size(); id += 1 + i) row.logits[id] = 2.5f;
      row.params.seed = i;
      row.params.top_k = i % 2 == 0 ? 0 : size / 7 + 1;
      row.params.top_p = i % 4 < 2 ? 0.37f : 1.0f;
      row.num_logprobs = static_cast<int32_t>(i);
      rows.push_back(row);
    }
    expect_host_equals_device(rows);
  }
}

TEST_P(SampleOnDevice, OnlyTheMostLikelyTokens) {
  std::vector<Row> rows = crowd(9001);
  for (Row& row : rows) {
    row.params.temperature = 0;
    row.scored_token = -1;
    row.num_logprobs = -1;
  }
  expect_host_equals_device(rows);
  rows[5].num_logprobs = 3;
  expect_host_equals_device(rows);
}

// Weights at every step of 2^-9 of a scaled logit, and of logits near the maximum.
TEST(SampleMath, MassesAreTheHosts) {
  const sampling::WeightScale host{1.0f, 1.0f};
  const WeightScale device{1.0f, 1.0f};
  const auto& kernels = sampling::row_kernels();
  std::vector<float> z;
  for (int i = 0; i < 64 * 512; ++i) z.push_back(1.0f - static_cast<float>(i) / 512.0f);
  for (int i = 0; i < 64 * 512; ++i) z.push_back(from_key(key_of(1.0f) - i * 37));
  z.push_back(-kInfinity);
  for (const float x : z) {
    uint64_t mass = 0;
    kernels.weigh(&x, 1, host, INT32_MIN, &mass);
    ASSERT_EQ(mass, mass_of(x, device)) << x;
    ASSERT_TRUE(mass == 0 || scaled(x, device) >= kLowestScaled) << x;
  }
}

}  // namespace
}  // namespace sluice::kernels::cuda
