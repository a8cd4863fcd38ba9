#include <ATen/TensorOperators.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/backends.h"
#include "kernels/operators.h"
#include "support.h"

namespace sluice::kernels::testing {
namespace {

constexpr double kEpsilon = 1e-6;

struct Shape {
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_size;
  int64_t columns() const { return (num_heads + 2 * num_kv_heads) * head_size; }
};

constexpr Shape kShapes[] = {{1, 1, 2},  {3, 3, 16}, {4, 2, 20},
                             {8, 1, 64}, {6, 2, 80}, {4, 4, 128}};

class HeadNormTest : public KernelTest {};

// Sums of `size` positive numbers, a square root and three products, then the last rounding.
at::Tensor tolerance(const at::Tensor& expected, int64_t size, at::ScalarType type) {
  const double relative = (std::sqrt(static_cast<double>(size)) + 8) * 0x1p-23;
  return expected.abs() * (relative + unit_roundoff(type) * 1.01) + 4e-6;
}

TEST_F(HeadNormTest, EqualsTheReference) {
  for (const at::ScalarType type : kDtypes) {
    for (const Shape& shape : kShapes) {
      const at::Tensor qkv = random_tensor({7, shape.columns()}, 1, type) + 0.5;
      const at::Tensor query_weight = random_tensor({shape.head_size}, 2, type);
      const at::Tensor key_weight = random_tensor({shape.head_size}, 3, type);
      const at::Tensor expected = reference::head_norm(
          qkv.to(at::kDouble), query_weight.to(at::kDouble), key_weight.to(at::kDouble),
          shape.num_heads, shape.num_kv_heads, kEpsilon);
      EXPECT_TRUE(close(
          head_norm(qkv, query_weight, key_weight, shape.num_heads, shape.num_kv_heads, kEpsilon),
          expected, tolerance(expected, shape.head_size, type)))
          << type << " head size " << shape.head_size;
    }
  }
}

// Each head as rms_norm gives it alone, and value heads as they were, even if they are no numbers.
TEST_F(HeadNormTest, NormsEachHeadByItself) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const at::ScalarType type : kDtypes) {
    for (const Shape& shape : kShapes) {
      const auto& [num_heads, num_kv_heads, size] = shape;
      at::Tensor qkv = random_tensor({5, shape.columns()}, 4, type);
      qkv.narrow(1, (num_heads + num_kv_heads) * size, num_kv_heads * size).fill_(nan);
      const at::Tensor query_weight = random_tensor({size}, 5, type);
      const at::Tensor key_weight = random_tensor({size}, 6, type);
      const at::Tensor normed =
          head_norm(qkv, query_weight, key_weight, num_heads, num_kv_heads, kEpsilon);
      for (int64_t head = 0; head < num_heads + 2 * num_kv_heads; ++head) {
        at::Tensor expected = qkv.narrow(1, head * size, size).contiguous();
        if (head < num_heads + num_kv_heads) {
          expected = rms_norm(expected, head < num_heads ? query_weight : key_weight, kEpsilon);
        }
        ASSERT_TRUE(same_bits(normed.narrow(1, head * size, size).contiguous(), expected))
            << type << " head " << head << " of size " << size;
      }
    }
  }
}

TEST_F(HeadNormTest, RowLaw) {
  constexpr Shape kShape{6, 2, 20};
  for (const at::ScalarType type : kDtypes) {
    const at::Tensor qkv = random_tensor({37, kShape.columns()}, 7, type);
    const at::Tensor query_weight = random_tensor({kShape.head_size}, 8, type);
    const at::Tensor key_weight = random_tensor({kShape.head_size}, 9, type);
    const auto norm = [&](const at::Tensor& rows) {
      return head_norm(rows, query_weight, key_weight, kShape.num_heads, kShape.num_kv_heads,
                       kEpsilon);
    };
    const at::Tensor together = norm(qkv);
    ThreadPool pool(2);
    const ComputeScope scope(pool);
    ASSERT_TRUE(same_bits(norm(qkv), together));
    for (int64_t row = 0; row < qkv.size(0); ++row) {
      ASSERT_TRUE(same_bits(norm(qkv.narrow(0, row, 1)), together.narrow(0, row, 1))) << row;
    }
  }
}

TEST_F(HeadNormTest, RefusesWhatDoesNotFit) {
  const at::Tensor qkv = random_tensor({3, 40}, 10, at::kFloat);  // 4 + 2 * 2 heads of 5
  const at::Tensor weight = random_tensor({5}, 11, at::kFloat);
  EXPECT_NO_THROW(head_norm(qkv, weight, weight, 4, 2, kEpsilon));
  EXPECT_THROW(head_norm(qkv, weight, weight, 4, 3, kEpsilon), c10::Error);
  EXPECT_THROW(head_norm(qkv, weight, weight, 5, 5, kEpsilon), c10::Error);
  EXPECT_THROW(head_norm(qkv, weight.narrow(0, 0, 4), weight, 4, 2, kEpsilon), c10::Error);
  EXPECT_THROW(head_norm(qkv, weight, weight.to(at::kHalf), 4, 2, kEpsilon), c10::Error);
  EXPECT_THROW(head_norm(qkv.t(), weight, weight, 4, 2, kEpsilon), c10::Error);
}

}  // namespace
}  // namespace sluice::kernels::testing
