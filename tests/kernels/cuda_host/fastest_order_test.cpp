#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "attention_world.h"
#include "kernels/cuda/device/sum_order.h"
#include "linear_world.h"

// The kernels without the fixed order of sums, which benchmarks compare the others with: their
// numbers are right, and a row's bits depend on its company.
namespace sluice::kernels::cuda {
namespace {

static_assert(!kFixedOrder);

std::vector<float> floats(const std::vector<unsigned char>& bytes) {
  std::vector<float> numbers(bytes.size() / sizeof(float));
  std::memcpy(numbers.data(), bytes.data(), bytes.size());
  return numbers;
}

// Few rows, many, and the float32 sum of which neither has more than an order of its own.
TEST(FastestOrder, LinearIsRightAndHasNoRowLaw) {
  using host::LinearWorld;
  const LinearWorld linear({.columns = 4128, .float_output = true});
  const auto many = floats(linear.run(0, LinearWorld::kMostRows, Activation::kNone, 4));
  const auto few = floats(linear.run(0, 8, Activation::kNone, 4));
  size_t num_other = 0;
  for (size_t i = 0; i < few.size(); ++i) {
    ASSERT_NEAR(few[i], many[i], 1e-3) << i;  // sums of 4,128 products of about 1: about 64
    num_other += few[i] != many[i] ? 1 : 0;
  }
  EXPECT_GT(num_other, few.size() / 4);
}

TEST(FastestOrder, AttentionIsRightAndHasNoRowLaw) {
  using host::AttentionWorld;
  size_t num_other = 0;
  for (const auto& shape : {host::AttentionShape{.heads = 4, .kv_heads = 2},
                            host::AttentionShape{.type = DType::kF32, .heads = 2, .kv_heads = 1},
                            host::AttentionShape{.heads = 2, .kv_heads = 1, .window = 200},
                            host::AttentionShape{.heads = 2, .kv_heads = 2, .head_size = 256}}) {
    const AttentionWorld world(shape, {1, 470});
    const auto expected = world.oracle();
    const auto whole = world.run(1000);
    const auto chunked = world.run(400, 10);
    for (size_t b = 0; b < expected.size(); ++b) {
      num_other += whole[b] != chunked[b] ? 1 : 0;
      for (const auto* bytes : {&whole[b], &chunked[b]}) {
        const std::vector<double> numbers = world.numbers(*bytes);
        ASSERT_EQ(numbers.size(), expected[b].size());
        for (size_t i = 0; i < numbers.size(); ++i) {
          ASSERT_LE(std::abs(numbers[i] - expected[b][i]), world.tolerance(expected[b][i]))
              << shape << " sequence " << b << " number " << i;
        }
      }
    }
  }
  EXPECT_GT(num_other, 0u);
}

}  // namespace
}  // namespace sluice::kernels::cuda
