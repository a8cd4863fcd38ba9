#pragma once

#include <cstdint>
#include <vector>

namespace sluice::kernels {

// What the cache's numbers are.
//   kModel: of the model's dtype
//   kInt8: symmetric int8 with two float32 scales a slot and KV head, one for its key and one for
//     its value (kv_int8.h)
//   kFloat8: e4m3 with two scales of a byte likewise, powers of two (kv_float8.h); on GPUs only
enum class KvFormat : uint8_t { kModel, kInt8, kFloat8 };

// Sizes of one layer's KV cache. The order of the numbers inside a block is the kernels' own
// business; the pool only allocates `shape` and never looks inside.
struct KvShape {
  int64_t num_blocks = 0;
  int64_t num_kv_heads = 0;
  // S, tokens. Any number works; the bits of a row are those of every other S that is a multiple
  // of 16 only where S is one too (AMX or AVX-512, and bfloat16).
  int64_t block_size = 16;
  int64_t head_size = 0;  // D
  KvFormat format = KvFormat::kModel;
};

// What a slot has beside its 2 D numbers: its two scales.
constexpr int64_t kv_scale_bytes(KvFormat format) {
  return format == KvFormat::kInt8 ? 8 : format == KvFormat::kFloat8 ? 2 : 0;
}

// Shape of the tensor of one layer: the first dimension is the block, so bytes per block are the
// same for every block and a block can be moved as a whole.
//   kModel: [N, Hkv, S, 2 D] of the model's dtype | kInt8: [N, Hkv, S, 2 D + 8] int8 |
//   kFloat8: [N, Hkv, S, 2 D + 2] uint8
std::vector<int64_t> kv_cache_shape(const KvShape& shape);

}  // namespace sluice::kernels
