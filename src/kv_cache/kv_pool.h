#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "sluice/error.h"

namespace sluice::kv_cache {

// The memory of the KV cache: one tensor a layer, indexed by BlockId in its first dimension.
//
// Pages come from the system zeroed and on first use only, in huge pages where it has them, so a
// pool costs what its blocks in use cost.
// Threads: engine thread only.
class KvPool final {
 public:
  // `layer_shape`: sizes of one layer's tensor. kResourceExhausted if the system refuses the
  // memory. Requires: sizes > 0.
  static Result<std::unique_ptr<KvPool>> create(const std::vector<int64_t>& layer_shape,
                                                int64_t num_layers, at::ScalarType dtype);

  const std::vector<at::Tensor>& layers() const { return layers_; }

 private:
  explicit KvPool(std::vector<at::Tensor> layers) : layers_(std::move(layers)) {}

  std::vector<at::Tensor> layers_;
};

}  // namespace sluice::kv_cache
