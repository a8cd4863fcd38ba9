#include <ATen/TensorOperators.h>

#include <cmath>

#include "kernels/backends.h"
#include "kernels/operators.h"
#include "support.h"

namespace sluice::kernels::testing {
namespace {

constexpr double kEpsilon = 1e-5;

class RowsTest : public KernelTest {};

// Sums of `size` positive numbers, a square root and three products, then the last rounding.
at::Tensor tolerance(const at::Tensor& expected, int64_t size, at::ScalarType type) {
  const double relative = (std::sqrt(static_cast<double>(size)) + 8) * 0x1p-23;
  return expected.abs() * (relative + unit_roundoff(type) * 1.01) + 4e-6;
}

TEST_F(RowsTest, NormsEqualTheReference) {
  for (const at::ScalarType type : kDtypes) {
    for (int64_t size : {1, 15, 16, 63, 64, 100, 1024, 2049}) {
      const at::Tensor x = random_tensor({6, size}, 1, type) + 0.5;
      const at::Tensor weight = random_tensor({size}, 2, type);
      const at::Tensor bias = random_tensor({size}, 3, type);
      const at::Tensor rms =
          reference::rms_norm(x.to(at::kDouble), weight.to(at::kDouble), kEpsilon);
      EXPECT_TRUE(close(rms_norm(x, weight, kEpsilon), rms, tolerance(rms, size, type)))
          << type << " " << size;
      if (size == 1) continue;  // all bias: x - mean is a rounding error
      const at::Tensor layer = reference::layer_norm(x.to(at::kDouble), weight.to(at::kDouble),
                                                     bias.to(at::kDouble), kEpsilon);
      EXPECT_TRUE(close(layer_norm(x, weight, bias, kEpsilon), layer, tolerance(layer, size, type)))
          << type << " " << size;
    }
  }
}

TEST_F(RowsTest, SwigluEqualsTheReference) {
  for (const at::ScalarType type : kDtypes) {
    for (int64_t size : {1, 17, 64, 300}) {
      const at::Tensor x = random_tensor({5, 2 * size}, 4, type, 3.0);
      const at::Tensor expected = reference::swiglu(x.to(at::kDouble));
      EXPECT_TRUE(close(swiglu(x), expected, tolerance(expected, 1, type))) << type << " " << size;
    }
  }
}

TEST_F(RowsTest, RowLaw) {
  for (const at::ScalarType type : kDtypes) {
    for (int64_t size : {64, 100, 1030}) {
      const at::Tensor x = random_tensor({37, size}, 5, type);
      const at::Tensor weight = random_tensor({size}, 6, type);
      const at::Tensor bias = random_tensor({size}, 7, type);
      const at::Tensor rms = rms_norm(x, weight, kEpsilon);
      const at::Tensor layer = layer_norm(x, weight, bias, kEpsilon);
      const at::Tensor gated = swiglu(x);
      ThreadPool pool(2);
      const ComputeScope scope(pool);
      ASSERT_TRUE(same_bits(rms_norm(x, weight, kEpsilon), rms));
      ASSERT_TRUE(same_bits(layer_norm(x, weight, bias, kEpsilon), layer));
      ASSERT_TRUE(same_bits(swiglu(x), gated));
      for (int64_t row = 0; row < x.size(0); ++row) {
        const at::Tensor alone = x.narrow(0, row, 1);
        ASSERT_TRUE(same_bits(rms_norm(alone, weight, kEpsilon), rms.narrow(0, row, 1)));
        ASSERT_TRUE(same_bits(layer_norm(alone, weight, bias, kEpsilon), layer.narrow(0, row, 1)));
        ASSERT_TRUE(same_bits(swiglu(alone), gated.narrow(0, row, 1)));
      }
    }
  }
}

TEST_F(RowsTest, SelectRowsCopies) {
  const at::Tensor none = int_tensor({});
  for (const at::ScalarType type : kDtypes) {
    const at::Tensor x = random_tensor({9, 33}, 8, type);
    const std::vector<at::Tensor> plan = {none, none, none, int_tensor({0, 4, 8})};
    EXPECT_TRUE(same_bits(select_rows(x, plan), reference::select_rows(x, plan)));
    const std::vector<at::Tensor> outside = {none, none, none, int_tensor({9, 8})};
    if (device().is_cpu()) {
      EXPECT_THROW(select_rows(x, outside), c10::Error);
    } else {
      const at::Tensor rows = select_rows(x, outside);
      EXPECT_TRUE(rows[0].isnan().all().item<bool>());
      EXPECT_TRUE(same_bits(rows[1], x[8]));
    }
    EXPECT_THROW(select_rows(x, {none, none}), c10::Error);
  }
}

}  // namespace
}  // namespace sluice::kernels::testing
