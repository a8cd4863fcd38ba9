#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

// `attention` of operators.h on the CPU.
namespace sluice::kernels::cpu {

at::Tensor attention(const at::Tensor& qkv, const at::Tensor& positions, at::Tensor cache,
                     at::TensorList plan, int64_t num_heads, int64_t num_kv_heads, double scale,
                     const std::optional<at::Tensor>& rope,
                     const std::optional<at::Tensor>& alibi_slopes, int64_t window);

}  // namespace sluice::kernels::cpu
