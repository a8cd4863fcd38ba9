#include "support.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <cstring>
#include <random>
#include <sstream>

namespace sluice::kernels::testing {

double unit_roundoff(at::ScalarType type) {
  switch (type) {
    case at::kHalf:
      return 0x1p-11;
    case at::kBFloat16:
      return 0x1p-8;  // also covers a kernel that counts denormals as zero
    case at::kFloat:
      return 0x1p-24;
    default:
      return 0x1p-53;
  }
}

at::Tensor random_tensor(at::IntArrayRef shape, uint64_t seed, at::ScalarType type, double scale) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal(0.0, scale);
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(at::kDouble));
  double* numbers = tensor.data_ptr<double>();
  for (int64_t i = 0; i < tensor.numel(); ++i) numbers[i] = normal(generator);
  return tensor.to(type);
}

at::Tensor int_tensor(const std::vector<int32_t>& values) {
  const auto size = static_cast<int64_t>(values.size());
  at::Tensor tensor = at::empty({size}, at::TensorOptions().dtype(at::kInt));
  std::memcpy(tensor.data_ptr(), values.data(), values.size() * sizeof(int32_t));
  return tensor;
}

at::ScalarType cache_type(KvFormat format, at::ScalarType type) {
  return format == KvFormat::kInt8 ? at::kChar : format == KvFormat::kFloat8 ? at::kByte : type;
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor left = a.contiguous();
  const at::Tensor right = b.contiguous();
  return left.scalar_type() == right.scalar_type() && left.sizes() == right.sizes() &&
         std::memcmp(left.const_data_ptr(), right.const_data_ptr(), left.nbytes()) == 0;
}

::testing::AssertionResult close(const at::Tensor& actual, const at::Tensor& expected,
                                 const at::Tensor& tolerance) {
  const at::Tensor a = actual.to(at::kDouble).contiguous().flatten();
  const at::Tensor e = expected.to(at::kDouble).contiguous().flatten();
  const at::Tensor t = tolerance.to(at::kDouble).expand_as(expected).contiguous().flatten();
  if (a.numel() != e.numel()) return ::testing::AssertionFailure() << "sizes differ";
  double worst = 0;
  int64_t worst_idx = -1;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double error = std::abs(a.const_data_ptr<double>()[i] - e.const_data_ptr<double>()[i]);
    const double ratio = error / t.const_data_ptr<double>()[i];
    if (ratio > worst || !(ratio == ratio)) {
      worst = ratio;
      worst_idx = i;
      if (!(ratio == ratio)) break;
    }
  }
  if (worst_idx < 0 || worst <= 1) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "element " << worst_idx << " of " << actual.sizes()
                                       << " is " << a.const_data_ptr<double>()[worst_idx]
                                       << ", expected " << e.const_data_ptr<double>()[worst_idx]
                                       << " within " << t.const_data_ptr<double>()[worst_idx];
}

}  // namespace sluice::kernels::testing
