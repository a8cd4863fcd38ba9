#include "kernels/quantize.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "kernels/compute.h"
#include "kernels/float8.h"

namespace sluice::kernels {
namespace {

constexpr int kMaxMultiplier = 15;
constexpr int kLowestCode = -8;
constexpr int kHighestCode = 7;
// The largest number of a row lies between the highest code and minus the lowest one, where
// rounding costs it half a step like any other.
constexpr float kCodeRange = 7.5f;
// Independent sums of squares, so that a compiler can use vectors and the order stays fixed.
constexpr int64_t kLanes = 16;

// Nearest whole number, halves to even. Requires: |x| < 2^22.
inline float round_even(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  return (x + kMagic) - kMagic;
}

void widen(const void* row, at::ScalarType type, int64_t count, float* to) {
  if (type == at::kFloat) {
    std::memcpy(to, row, count * sizeof(float));
  } else if (type == at::kHalf) {
    const auto* from = static_cast<const c10::Half*>(row);
    for (int64_t k = 0; k < count; ++k) to[k] = static_cast<float>(from[k]);
  } else {
    const auto* from = static_cast<const c10::BFloat16*>(row);
    for (int64_t k = 0; k < count; ++k) to[k] = static_cast<float>(from[k]);
  }
}

// NaN where the row holds one.
float largest_magnitude(const float* row, int64_t count) {
  uint32_t largest = 0;
  for (int64_t k = 0; k < count; ++k) {
    uint32_t bits = 0;
    std::memcpy(&bits, row + k, sizeof(bits));
    largest = std::max(largest, bits & 0x7fffffffu);
  }
  float magnitude = 0;
  std::memcpy(&magnitude, &largest, sizeof(magnitude));
  return magnitude;
}

// A row with one scale, which is returned: it makes the row's largest number `largest`. `round`
// turns a number of at most that into its byte; what division has made larger too.
template <typename Round>
float quantize_row(const float* row, int64_t columns, float largest, uint8_t* values, Round round) {
  const float scale = largest_magnitude(row, columns) / largest;
  if (scale < std::numeric_limits<float>::min()) {
    std::memset(values, 0, columns);
    return 0.0f;
  }
  for (int64_t k = 0; k < columns; ++k) values[k] = round(row[k] / scale);
  return scale;
}

float quantize_row_int8(const float* row, int64_t columns, uint8_t* values) {
  return quantize_row(row, columns, 127.0f, values, [](float x) {
    return static_cast<uint8_t>(static_cast<int8_t>(std::clamp(round_even(x), -127.0f, 127.0f)));
  });
}

float quantize_row_float8(const float* row, int64_t columns, uint8_t* values) {
  return quantize_row(row, columns, kFloat8Largest, values,
                      [](float x) { return to_float8(x).bits; });
}

inline float code_of(float x, float inverse) {
  return std::clamp(round_even(x * inverse), static_cast<float>(kLowestCode),
                    static_cast<float>(kHighestCode));
}

// Sum of the squared errors of a group rounded to steps of `step`.
float squared_error(const float* group, int64_t count, float step) {
  const float inverse = 1.0f / step;
  float sums[kLanes] = {};
  int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float x = group[k + lane];
      const float error = x - step * code_of(x, inverse);
      sums[lane] += error * error;
    }
  }
  for (; k < count; ++k) {
    const float error = group[k] - step * code_of(group[k], inverse);
    sums[k % kLanes] += error * error;
  }
  float sum = 0;
  for (const float lane : sums) sum += lane;
  return sum;
}

// The multiple of `base` with the least squared error, among those that neither clip much nor waste
// half of the codes.
int best_multiplier(const float* group, int64_t count, float base) {
  const float largest = largest_magnitude(group, count);
  const float ideal = largest / (base * kCodeRange);
  const int first = std::clamp(static_cast<int>(ideal * 0.75f), 1, kMaxMultiplier);
  const int last = std::clamp(static_cast<int>(ideal * 1.25f) + 1, first, kMaxMultiplier);
  int best = last;
  float least = std::numeric_limits<float>::infinity();
  for (int m = first; m <= last; ++m) {
    const float error = squared_error(group, count, base * static_cast<float>(m));
    if (error < least) {
      least = error;
      best = m;
    }
  }
  return best;
}

// A row's base: 16 bits of mantissa, so that its multiples are exact.
float row_base(float largest) {
  const float exact = largest / (kCodeRange * kMaxMultiplier);
  uint32_t bits = 0;
  std::memcpy(&bits, &exact, sizeof(bits));
  bits = (bits + 0x80u) & ~0xffu;
  float base = 0;
  std::memcpy(&base, &bits, sizeof(base));
  return base < std::numeric_limits<float>::min() ? 0.0f : base;
}

void quantize_row_int4(const float* row, int64_t columns, int64_t group_size, uint8_t* values,
                       float* scales) {
  const float base = row_base(largest_magnitude(row, columns));
  for (int64_t first = 0; first < columns; first += group_size) {
    const int64_t count = std::min(group_size, columns - first);
    float& scale = scales[first / group_size];
    scale =
        base == 0.0f ? 0.0f : base * static_cast<float>(best_multiplier(row + first, count, base));
    const float inverse = base == 0.0f ? 0.0f : 1.0f / scale;
    for (int64_t k = first; k < first + count; k += 2) {
      const int low = static_cast<int>(code_of(row[k], inverse)) - kLowestCode;
      const int high = static_cast<int>(code_of(row[k + 1], inverse)) - kLowestCode;
      values[k / 2] = static_cast<uint8_t>(low | high << 4);
    }
  }
}

Result<void> check(const at::Tensor& weight, WeightFormat format, int64_t group_size) {
  const at::ScalarType type = weight.scalar_type();
  if (type != at::kFloat && type != at::kHalf && type != at::kBFloat16) {
    return invalid_argument(std::string("weight has dtype ") + c10::toString(type) +
                            ", expected float32, float16 or bfloat16");
  }
  if (weight.dim() != 2 || !weight.is_cpu() || !weight.is_contiguous()) {
    return invalid_argument("weight has " + std::to_string(weight.dim()) +
                            " dimensions, expected 2, contiguous, on the CPU");
  }
  if (weight.numel() == 0 || weight.size(1) > kMaxQuantizedColumns) {
    return invalid_argument("weight is " + std::to_string(weight.size(0)) + " x " +
                            std::to_string(weight.size(1)) +
                            ", expected at least 1 x 1 and at most " +
                            std::to_string(kMaxQuantizedColumns) + " columns");
  }
  if (format == WeightFormat::kPlain) {
    return invalid_argument("format is plain, expected int8, int4 or fp8");
  }
  if (format != WeightFormat::kInt4) return {};
  if (group_size != 32 && group_size != 128) {
    return invalid_argument("group size is " + std::to_string(group_size) + ", expected 32 or 128");
  }
  if (weight.size(1) % 2 != 0) {
    return invalid_argument("weight has " + std::to_string(weight.size(1)) +
                            " columns, expected an even number for int4");
  }
  return {};
}

Result<QuantizedWeight> make_result(const at::Tensor& weight, WeightFormat format,
                                    int64_t group_size) {
  const int64_t n = weight.size(0);
  const int64_t k = weight.size(1);
  const auto options = at::TensorOptions().dtype(at::kFloat);
  QuantizedWeight result;
  try {
    if (format == WeightFormat::kInt4) {
      result.group_size = group_size;
      result.values = at::empty({n, k / 2}, options.dtype(at::kByte));
      result.scales = at::empty({n, (k + group_size - 1) / group_size}, options);
    } else {
      const bool is_int8 = format == WeightFormat::kInt8;
      result.values = at::empty({n, k}, options.dtype(is_int8 ? at::kChar : at::kFloat8_e4m3fn));
      result.scales = at::empty({n, 1}, options);
    }
  } catch (const std::exception&) {
    return fail(ErrorCode::kResourceExhausted, "no memory for a quantized weight of " +
                                                   std::to_string(n) + " x " + std::to_string(k));
  }
  return result;
}

}  // namespace

WeightFormat format_of(const QuantizedWeight& weight) {
  switch (weight.values.scalar_type()) {
    case at::kChar:
      return WeightFormat::kInt8;
    case at::kByte:
      return WeightFormat::kInt4;
    case at::kFloat8_e4m3fn:
      return WeightFormat::kFloat8;
    default:
      return WeightFormat::kPlain;
  }
}

Result<QuantizedWeight> quantize(const at::Tensor& weight, WeightFormat format,
                                 int64_t group_size) {
  if (const Result<void> checked = check(weight, format, group_size); !checked) {
    return std::unexpected(checked.error());
  }
  Result<QuantizedWeight> result = make_result(weight, format, group_size);
  if (!result) return result;
  const int64_t columns = weight.size(1);
  const int64_t row_bytes = columns * static_cast<int64_t>(weight.element_size());
  const auto* rows = static_cast<const char*>(weight.const_data_ptr());
  auto* values = static_cast<uint8_t*>(result->values.data_ptr());
  auto* scales = static_cast<float*>(result->scales.data_ptr());
  const int64_t value_bytes = result->values.size(1);
  const int64_t num_scales = result->scales.size(1);
  std::atomic<int64_t> bad_row{-1};
  auto task = [&](int64_t row) {
    thread_local std::vector<float> wide;
    wide.resize(columns);
    widen(rows + row * row_bytes, weight.scalar_type(), columns, wide.data());
    if (!std::isfinite(largest_magnitude(wide.data(), columns))) {
      bad_row.store(row);
      return;
    }
    uint8_t* const to = values + row * value_bytes;
    if (format == WeightFormat::kInt4) {
      quantize_row_int4(wide.data(), columns, group_size, to, scales + row * num_scales);
    } else {
      scales[row] = format == WeightFormat::kInt8 ? quantize_row_int8(wide.data(), columns, to)
                                                  : quantize_row_float8(wide.data(), columns, to);
    }
  };
  parallel_for(weight.size(0), std::ref(task));
  if (bad_row.load() >= 0) {
    return invalid_argument("weight has a number that is not finite in row " +
                            std::to_string(bad_row.load()));
  }
  return result;
}

at::Tensor dequantize(const QuantizedWeight& weight, at::ScalarType dtype) {
  if (format_of(weight) != WeightFormat::kInt4) {
    return (weight.values.to(at::kFloat) * weight.scales).to(dtype);
  }
  const int64_t rows = weight.values.size(0);
  const int64_t columns = 2 * weight.values.size(1);
  at::Tensor result = at::empty({rows, columns}, at::TensorOptions().dtype(at::kFloat));
  const auto* values = weight.values.const_data_ptr<uint8_t>();
  const auto* scales = weight.scales.const_data_ptr<float>();
  auto* numbers = static_cast<float*>(result.data_ptr());
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t k = 0; k < columns; ++k) {
      const int byte = values[(row * columns + k) / 2];
      const int code = k % 2 == 0 ? byte & 15 : byte >> 4;
      numbers[row * columns + k] = static_cast<float>(code + kLowestCode) *
                                   scales[row * weight.scales.size(1) + k / weight.group_size];
    }
  }
  return result.to(dtype);
}

}  // namespace sluice::kernels
