#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/device.h"
#include "kv_cache/page_toucher.h"
#include "sluice/error.h"

namespace sluice::kv_cache {

// The memory of the KV cache: one tensor a layer, indexed by BlockId in its first dimension.
//
// On the CPU pages come from the system zeroed, in huge pages where it has them, and not long
// before their use: a pool costs what its blocks in use cost, and kAheadBytes. A GPU's pool is all
// there from the start. Threads: engine thread only.
class KvPool final {
 public:
  // `layer_shape`: sizes of one layer's tensor. kResourceExhausted if the device refuses the
  // memory. Requires: sizes > 0.
  static Result<std::unique_ptr<KvPool>> create(kernels::Device& device,
                                                const std::vector<int64_t>& layer_shape,
                                                int64_t num_layers, at::ScalarType dtype);

  const std::vector<at::Tensor>& layers() const { return layers_; }

  // `block` is in use, so those up to kAheadBytes behind it may be next.
  void uses(int32_t block);

 private:
  static constexpr size_t kAheadBytes = size_t{256} << 20;  // over all layers

  KvPool(std::vector<at::Tensor> layers, std::unique_ptr<PageToucher> pages);

  std::vector<at::Tensor> layers_;
  size_t block_bytes_ = 0;              // of one layer
  std::unique_ptr<PageToucher> pages_;  // null on a GPU
};

}  // namespace sluice::kv_cache
