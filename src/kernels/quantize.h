#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/weight_format.h"
#include "sluice/error.h"

// Weights in 8 and 4 bits: how a checkpoint's numbers become codes, and what the codes mean.
//
//   int8: weight[n, k] = value[n, k] * scale[n, 0]
//   int4: weight[n, k] = (code[n, k] - 8) * scale[n, k / group_size]
//   fp8:  weight[n, k] = value[n, k] * scale[n, 0], values as float8.h has them
//
// The int4 scales of a row are whole multiples, 1 to 15, of one number of at most 20 bits, so that
// they are exact (all are 0 where the row is). So a row's weights are int8 numbers with one scale
// of their own, and int8 and int4 are multiplied by the same exact integer
// kernels (docs/decisions/0015-integer-weights.md). fp8 is for GPUs (0027-fp8-weights.md).
//
// The result depends on the weight alone: not on the machine, nor on the number of threads.
namespace sluice::kernels {

struct QuantizedWeight {
  at::Tensor values;       // int8: kChar [N, K], -127 to 127
                           // int4: kByte [N, K / 2], the code of element 2 j in the low nibble
                           // fp8: kFloat8_e4m3fn [N, K], no NaN
  at::Tensor scales;       // float32; int8, fp8: [N, 1], int4: [N, K / group_size rounded up]
  int64_t group_size = 0;  // int4: 32 or 128; else 0
  // int8 and fp8 on GPUs: the product's other operand stays float16 or bfloat16, and the weight
  // becomes that; else the other operand is rounded to int8 or fp8.
  bool keeps_activations = false;
};

// By the values' dtype; kPlain for one that is none of the above.
WeightFormat format_of(const QuantizedWeight& weight);

// Longest row whose integer sums cannot overflow: 127 * 127 * K < 2^31.
inline constexpr int64_t kMaxQuantizedColumns = 133'000;

// Rounds to nearest even with scale max|row| / 127 (int8) or / 448 (fp8), or searches the multiples
// of a row's base for each group's least squared error (int4).
//   weight [N, K] float32, float16 or bfloat16, contiguous, CPU | group_size: int4 only
// kInvalidArgument for another dtype, rank or group size, K > kMaxQuantizedColumns, an odd K in
// int4, or a weight that is not finite; kResourceExhausted without memory.
Result<QuantizedWeight> quantize(const at::Tensor& weight, WeightFormat format, int64_t group_size);

// The weight [N, K] that the codes stand for: the product in float32, rounded to `dtype`.
// Requires: what quantize() returned, or pack_weight() accepts.
at::Tensor dequantize(const QuantizedWeight& weight, at::ScalarType dtype);

}  // namespace sluice::kernels
