#include "kernels/kv_layout.h"

namespace sluice::kernels {

std::vector<int64_t> kv_cache_shape(const KvShape& shape) {
  return {shape.num_blocks, shape.num_kv_heads, shape.block_size,
          2 * shape.head_size + kv_scale_bytes(shape.format)};
}

}  // namespace sluice::kernels
