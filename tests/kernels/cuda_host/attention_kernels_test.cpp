#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention_world.h"
#include "with_schedule.h"

// The device's attention on the host: against float64, and the row law by its bits.
// tests/kernels/attention_test.cpp asks the same of every backend as an operator.
namespace sluice::kernels::cuda {
namespace {

using host::AttentionShape;
using host::AttentionWorld;
using host::StepRows;

// All with bfloat16, some with the others; or every `stride`th of them.
std::vector<AttentionShape> shapes(size_t stride = 1) {
  const std::vector<AttentionShape> plain = {
      {.heads = 2, .kv_heads = 2, .head_size = 32},
      {.heads = 4, .kv_heads = 4, .head_size = 64, .alibi = true},
      {.heads = 4, .kv_heads = 2, .head_size = 64, .rotary_size = 64},
      {.heads = 8, .kv_heads = 1, .head_size = 80, .rotary_size = 32},
      {.heads = 3, .kv_heads = 1, .head_size = 96, .window = 20},
      {.heads = 4, .kv_heads = 2, .head_size = 128, .rotary_size = 128, .window = 270},
      {.heads = 2, .kv_heads = 1, .head_size = 20, .block_size = 8, .rotary_size = 12},
      {.heads = 2, .kv_heads = 2, .head_size = 64, .block_size = 24, .window = 5, .alibi = true},
      {.heads = 2, .kv_heads = 1, .head_size = 64, .block_size = 64},
      {.heads = 2, .kv_heads = 1, .head_size = 32, .block_size = 1},
      {.heads = 2, .kv_heads = 1, .head_size = 256, .rotary_size = 256},
      {.heads = 20, .kv_heads = 1, .head_size = 16},
      {.heads = 2, .kv_heads = 1, .head_size = 258, .block_size = 7},
  };
  std::vector<AttentionShape> all, some;
  for (const DType type : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (const KvFormat cache : {KvFormat::kModel, KvFormat::kInt8, KvFormat::kFloat8}) {
      for (size_t i = 0; i < plain.size(); ++i) {
        if (type == DType::kF16 && i % 3 != 1) continue;
        if (type == DType::kF32 && i % 3 != 0) continue;
        AttentionShape& shape = all.emplace_back(plain[i]);
        shape.type = type;
        shape.cache = cache;
      }
    }
  }
  for (size_t i = 0; i < all.size(); i += stride) some.push_back(all[i]);
  return some;
}

class AttentionKernels : public host::WithSchedule {};

INSTANTIATE_TEST_SUITE_P(Schedules, AttentionKernels, host::schedules(), host::schedule_name);

TEST_P(AttentionKernels, EqualFloat64) {
  for (const AttentionShape& shape : shapes()) {
    const AttentionWorld world(shape, {1, 47, 131, 16});
    const auto expected = world.oracle();
    const auto actual = world.run(1000);
    for (size_t b = 0; b < expected.size(); ++b) {
      const std::vector<double> numbers = world.numbers(actual[b]);
      ASSERT_EQ(numbers.size(), expected[b].size());
      for (size_t i = 0; i < numbers.size(); ++i) {
        ASSERT_LE(std::abs(numbers[i] - expected[b][i]), world.tolerance(expected[b][i]))
            << shape << " sequence " << b << " number " << i << ": " << numbers[i] << ", expected "
            << expected[b][i];
      }
    }
  }
}

TEST_P(AttentionKernels, RowLaw) {
  for (const AttentionShape& shape : shapes()) {
    const AttentionWorld world(shape, {33, 1, 270});
    const auto whole = world.run(1000);
    for (const auto& [chunk, decodes] : {std::pair<int64_t, int64_t>{17, 0}, {120, 3}}) {
      const auto chunked = world.run(chunk, decodes);
      for (size_t b = 0; b < whole.size(); ++b) {
        ASSERT_TRUE(chunked[b] == whole[b]) << shape << " sequence " << b << " chunk " << chunk;
      }
    }
    for (size_t b = 0; b < whole.size(); ++b) {
      ASSERT_TRUE(world.only(b).run(64)[0] == whole[b]) << shape << " sequence " << b << " alone";
    }
  }
}

TEST_P(AttentionKernels, OneByOne) {
  for (const AttentionShape& shape : shapes(2)) {
    const AttentionWorld world(shape, {75, 31});
    const auto whole = world.run(1000);
    for (const int64_t chunk : {1, 3}) {
      const auto chunked = world.run(chunk);
      for (size_t b = 0; b < whole.size(); ++b) {
        ASSERT_TRUE(chunked[b] == whole[b]) << shape << " sequence " << b << " chunk " << chunk;
      }
    }
  }
}

// A value that is no finite number is those rows' that see it, and of the rest of its sequence.
TEST_P(AttentionKernels, AnInfinityStaysBehind) {
  constexpr int64_t kPosition = 75;
  for (const AttentionShape& shape : shapes(3)) {
    const AttentionWorld world(shape, {150, 40});
    AttentionWorld infinite(world);
    infinite.make_infinite(0, kPosition);
    const auto expected = world.run(1000);
    const auto whole = infinite.run(1000);
    ASSERT_TRUE(whole[1] == expected[1]) << shape;
    const auto row_bytes = expected[0].size() / 150;
    const auto before = static_cast<std::ptrdiff_t>(kPosition * row_bytes);
    ASSERT_TRUE(std::equal(whole[0].begin(), whole[0].begin() + before, expected[0].begin()))
        << shape;
    ASSERT_TRUE(infinite.run(7)[0] == whole[0]) << shape;
    const std::vector<double> numbers = infinite.numbers(whole[0]);
    ASSERT_FALSE(
        std::isfinite(numbers[static_cast<size_t>(kPosition * shape.heads * shape.head_size)]))
        << shape;
  }
}

// Contexts beyond kMaxParts parts of kPartKeys have longer ones.
TEST_P(AttentionKernels, LongContexts) {
  constexpr int64_t kFirst = 8192 - 20;
  for (const int64_t window : {0, 8198}) {
    const AttentionWorld world({.heads = 4, .kv_heads = 1, .head_size = 32, .window = window},
                               {kFirst + 40});
    const auto whole = world.step_alone({StepRows{0, kFirst, 40}});
    const auto row_bytes = static_cast<std::ptrdiff_t>(whole.size() / 40);
    for (const int64_t row : {0, 18, 19, 20, 21, 39}) {
      const auto one = world.step_alone({StepRows{0, kFirst + row, 1}});
      ASSERT_TRUE(std::equal(one.begin(), one.end(), whole.begin() + row * row_bytes))
          << "row " << row << " window " << window;
    }
    // In a crowd a block has several parts.
    std::vector<StepRows> crowd(600, StepRows{0, 1, 0});
    crowd[500] = {0, kFirst + 39, 1};
    const auto last = world.step_alone(crowd);
    ASSERT_TRUE(std::equal(last.begin(), last.end(), whole.begin() + 39 * row_bytes));
    const auto some = world.step_alone({StepRows{0, kFirst + 15, 9}});
    ASSERT_TRUE(std::equal(some.begin(), some.end(), whole.begin() + 15 * row_bytes));
  }
}

// A position past the rope's table: NaN, of the row and what follows it, in its sequence alone.
TEST_P(AttentionKernels, PositionsPastTheRope) {
  for (const AttentionShape& shape : shapes()) {
    if (shape.rotary_size == 0) continue;
    const AttentionWorld world(shape, {50, 20});
    AttentionWorld shorter(world);
    shorter.shorten_rope(40);
    const auto expected = world.run(1000);
    const auto actual = shorter.run(1000);
    ASSERT_TRUE(actual[1] == expected[1]) << shape;
    const auto before = static_cast<std::ptrdiff_t>(expected[0].size() / 50 * 40);
    ASSERT_TRUE(std::equal(actual[0].begin(), actual[0].begin() + before, expected[0].begin()))
        << shape;
    const std::vector<double> numbers = shorter.numbers(actual[0]);
    const auto is_nan = [](double x) { return std::isnan(x); };
    ASSERT_TRUE(
        std::all_of(numbers.begin() + 40 * shape.heads * shape.head_size, numbers.end(), is_nan))
        << shape;
  }
}

// A sequence may be in a step without a row.
TEST_P(AttentionKernels, SequencesWithoutRows) {
  const AttentionWorld world({.heads = 4, .kv_heads = 2}, {30, 20, 50});
  const auto whole = world.step_alone({StepRows{2, 48, 2}});
  EXPECT_EQ(world.step_alone({StepRows{0, 30, 0}, StepRows{2, 48, 2}, StepRows{1, 20, 0}}), whole);
  EXPECT_TRUE(world.step_alone({StepRows{0, 30, 0}}).empty());
  EXPECT_TRUE(world.step_alone({}).empty());
}

}  // namespace
}  // namespace sluice::kernels::cuda
