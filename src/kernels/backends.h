#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace torch {
class Library;
}

// The operators of operators.h as each backend provides them. All backends share these signatures,
// and every function checks its arguments with checks.h first.
namespace sluice::kernels {

// Plain ATen, any device; sums in float32, or float64 where the inputs are. Plain weights only.
// Slow and clear: the oracle of the tests, and the fallback of devices without kernels.
// The cache's last dimension holds a slot's key and then its value here, then an int8 cache's two
// scales.
namespace reference {
at::Tensor embed(const at::Tensor& tokens, const at::Tensor& weight,
                 const std::optional<at::Tensor>& residual);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double epsilon);
at::Tensor head_norm(const at::Tensor& qkv, const at::Tensor& query_weight,
                     const at::Tensor& key_weight, int64_t num_heads, int64_t num_kv_heads,
                     double epsilon);
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, std::string_view activation,
                  const std::optional<at::Tensor>& residual);
at::Tensor swiglu(const at::Tensor& x);
at::Tensor attention(const at::Tensor& qkv, const at::Tensor& positions, at::Tensor cache,
                     at::TensorList plan, int64_t num_heads, int64_t num_kv_heads, double scale,
                     const std::optional<at::Tensor>& rope,
                     const std::optional<at::Tensor>& alibi_slopes, int64_t window);
at::Tensor select_rows(const at::Tensor& x, at::TensorList plan);
at::Tensor logits(const at::Tensor& x, const at::Tensor& weight);
void register_backend(torch::Library& library);
}  // namespace reference

// This machine's vector kernels; plain or packed weights.
namespace cpu {
void register_backend(torch::Library& library);
}  // namespace cpu

// The kernels of device_api.h's table, for tensors of an open device (cuda/cuda_device.h).
namespace cuda {
void register_backend(torch::Library& library);
}  // namespace cuda

}  // namespace sluice::kernels
