#pragma once

#include <cstdint>
#include <vector>

namespace sluice::kernels {

// Sizes of one layer's KV cache. The order of the numbers inside a block is the kernels' own
// business; the pool only allocates `shape` and never looks inside.
struct KvShape {
  int64_t num_blocks = 0;
  int64_t num_kv_heads = 0;
  int64_t block_size = 16;  // S, tokens
  int64_t head_size = 0;    // D
};

// Shape of the tensor of one layer: the first dimension is the block, so bytes per block are the
// same for every block and a block can be moved as a whole.
std::vector<int64_t> kv_cache_shape(const KvShape& shape);

}  // namespace sluice::kernels
