#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

// The inside of a packed weight, for the CPU kernels only.
namespace sluice::kernels {

struct PackedWeight {
  at::Tensor rows;
};

using PackedHandle = std::shared_ptr<const PackedWeight>;

// What `tensor` packs, or nullptr for a plain tensor. Lives as long as `tensor`.
const PackedWeight* packed_weight(const at::Tensor& tensor);

}  // namespace sluice::kernels
