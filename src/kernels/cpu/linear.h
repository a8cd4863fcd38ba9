#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

// `linear` and `logits` of operators.h on the CPU. A plain weight is packed for the call: the same
// bits as packed before, much slower.
namespace sluice::kernels::cpu {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, std::string_view activation,
                  const std::optional<at::Tensor>& residual);
at::Tensor logits(const at::Tensor& x, const at::Tensor& weight);

}  // namespace sluice::kernels::cpu
