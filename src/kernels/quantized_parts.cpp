#include "kernels/quantized_parts.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "kernels/float8.h"

namespace sluice::kernels {
namespace {

constexpr int kMaxMultiplier = 15;

// True if the products of x with 1 to 15 are exact: its mantissa has four bits to spare.
bool has_exact_multiples(float x) {
  uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof(bits));
  return (bits & 15u) == 0;
}

// Eight at a time: a NaN's seven low bits are all set, and one more sets its highest.
bool has_float8_nan(const uint8_t* values, int64_t count) {
  constexpr uint64_t kOnes = 0x0101010101010101u;
  int64_t k = 0;
  for (; k + 8 <= count; k += 8) {
    uint64_t word = 0;
    std::memcpy(&word, values + k, sizeof(word));
    if ((((word & 0x7f * kOnes) + kOnes) & 0x80 * kOnes) != 0) return true;
  }
  return std::any_of(values + k, values + count, is_float8_nan);
}

}  // namespace

float base_of(const float* scales, int64_t count) {
  const float largest = *std::max_element(scales, scales + count);
  if (largest == 0.0f) return 0.0f;
  for (int parts = kMaxMultiplier; parts >= 1; --parts) {
    const float base = largest / static_cast<float>(parts);
    if (!has_exact_multiples(base)) continue;
    const bool fits = std::all_of(scales, scales + count, [base](float scale) {
      const float multiple = std::round(scale / base);
      return multiple >= 1.0f && multiple <= kMaxMultiplier && multiple * base == scale;
    });
    if (fits) return base;
  }
  return -1.0f;
}

int multiplier_of(float scale, float base) {
  return base == 0.0f ? 1 : static_cast<int>(std::round(scale / base));
}

bool are_scales(const float* scales, int64_t count) {
  return std::all_of(scales, scales + count,
                     [](float scale) { return std::isfinite(scale) && scale >= 0.0f; });
}

std::unexpected<Error> bad_quantized_row(const QuantizedWeight& weight, int64_t row) {
  return invalid_argument(
      "row " + std::to_string(row) +
      (weight.group_size != 0
           ? " has scales that are not finite whole multiples, 1 to 15, of one number"
       : format_of(weight) == WeightFormat::kInt8
           ? " has a value of -128 or a scale that is negative or not finite"
           : " has a value that is a NaN or a scale that is negative or not finite"));
}

bool are_values(const uint8_t* values, int64_t count, WeightFormat format) {
  if (format == WeightFormat::kFloat8) return !has_float8_nan(values, count);
  return format != WeightFormat::kInt8 ||
         std::memchr(values, -128, static_cast<size_t>(count)) == nullptr;
}

Result<void> check_quantized(const QuantizedWeight& weight, at::ScalarType activations) {
  const at::Tensor& values = weight.values;
  const at::Tensor& scales = weight.scales;
  const WeightFormat format = format_of(weight);
  const bool is_int4 = format == WeightFormat::kInt4;
  if (activations != at::kFloat && activations != at::kHalf && activations != at::kBFloat16) {
    return invalid_argument(std::string("activations have dtype ") + c10::toString(activations) +
                            ", expected float32, float16 or bfloat16");
  }
  if (is_int4 ? weight.group_size != 32 && weight.group_size != 128 : weight.group_size != 0) {
    return invalid_argument("group size is " + std::to_string(weight.group_size) +
                            (is_int4 ? ", expected 32 or 128" : ", which int4 alone has"));
  }
  if (!values.defined() || !scales.defined() || values.dim() != 2 || scales.dim() != 2 ||
      !values.is_cpu() || !scales.is_cpu() || !values.is_contiguous() || !scales.is_contiguous() ||
      format == WeightFormat::kPlain || scales.scalar_type() != at::kFloat) {
    return invalid_argument(
        "quantized weight lacks contiguous matrices of int8, uint8 or float8_e4m3fn values and "
        "float32 scales");
  }
  const int64_t columns = values.size(1) * (is_int4 ? 2 : 1);
  const int64_t num_scales = is_int4 ? (columns + weight.group_size - 1) / weight.group_size : 1;
  if (values.numel() == 0 || columns > kMaxQuantizedColumns) {
    return invalid_argument("quantized weight is " + std::to_string(values.size(0)) + " x " +
                            std::to_string(columns) + ", expected at least 1 x 1 and at most " +
                            std::to_string(kMaxQuantizedColumns) + " columns");
  }
  if (scales.size(0) != values.size(0) || scales.size(1) != num_scales) {
    return invalid_argument("scales are " + std::to_string(scales.size(0)) + " x " +
                            std::to_string(scales.size(1)) + ", expected " +
                            std::to_string(values.size(0)) + " x " + std::to_string(num_scales));
  }
  return {};
}

}  // namespace sluice::kernels
