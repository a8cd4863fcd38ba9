#include "kernels/kv_layout.h"

namespace sluice::kernels {

std::vector<int64_t> kv_cache_shape(const KvShape& shape) {
  const int64_t scales = shape.format == KvFormat::kInt8 ? kKvScaleBytes : 0;
  return {shape.num_blocks, shape.num_kv_heads, shape.block_size, 2 * shape.head_size + scales};
}

}  // namespace sluice::kernels
