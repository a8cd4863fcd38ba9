#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/quantize.h"
#include "sluice/error.h"

// What packing a quantized weight is for every backend: its checks, and the parts of int4's scales.
namespace sluice::kernels {

// kInvalidArgument unless the tensors are as quantize.h says, and `activations` a dtype of models.
// The numbers are not looked at.
Result<void> check_quantized(const QuantizedWeight& weight, at::ScalarType activations);

// True if all are finite and not negative.
bool are_scales(const float* scales, int64_t count);

// True if a row's values are what the format has: no -128, which has no magnitude in int8; no NaN
// of fp8.
bool are_values(const uint8_t* values, int64_t count, WeightFormat format);

// The number whose multiples, 1 to 15, a row's int4 scales are; negative if there is none.
float base_of(const float* scales, int64_t count);
// Which multiple of its row's base a scale is.
int multiplier_of(float scale, float base);

// The error of a row whose values or scales are not as quantize.h says.
std::unexpected<Error> bad_quantized_row(const QuantizedWeight& weight, int64_t row);

}  // namespace sluice::kernels
