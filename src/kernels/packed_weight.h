#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/quantize.h"
#include "sluice/error.h"

// A linear layer's weight in the layout of one kernel profile.
//
// It travels through TorchScript as an opaque tensor (at::OpaqueTensorImpl, as oneDNN's prepacked
// weights do): sizes [N, K], no storage, so that only `linear`, `logits` and `embed` can read it
// and anything else fails with a clear error instead of reading a foreign layout.
namespace sluice::kernels {

// Packs a weight for the machine's profile. The result does not share memory with `weight`.
//   weight [N, K] float32, float16 or bfloat16, contiguous, CPU
// kInvalidArgument for another dtype or rank, or no elements; kResourceExhausted without memory.
Result<at::Tensor> pack_weight(const at::Tensor& weight);

// The same for a quantized weight, to be used with activations of dtype `activations`, which the
// result says as its own dtype.
// kInvalidArgument for tensors that are not as quantize.h says, or another dtype.
Result<at::Tensor> pack_weight(const QuantizedWeight& weight, at::ScalarType activations);

// True for what pack_weight returned.
bool is_packed(const at::Tensor& tensor);

// Bytes that a packed weight holds, padding included.
int64_t packed_bytes(const at::Tensor& packed);

}  // namespace sluice::kernels
