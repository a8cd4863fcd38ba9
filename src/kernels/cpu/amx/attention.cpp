#include "kernels/cpu/amx/attention.h"

#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/amx/vector_product.h"
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/simd/brain_attention.h"

// bfloat16 attention on AMX's tile registers: 32 numbers of D or 16 positions a product. Few rows
// do without them, see vector_product.h.
namespace sluice::kernels::cpu::amx {
namespace {

using avx512::Vec;

constexpr int64_t kScoreBytes = simd::kScoreStride * sizeof(float);

// Registers: sums 0 to 3; a query's 32 numbers 4 and 32 rows of keys 5; 16 numbers of a query, or
// weights of 16 positions, 6 and 16 rows of keys or values 7.
struct TileProduct {
  static constexpr bool kReadsAhead = false;

  static void configure(int64_t rows) {
    TileConfig config;
    for (int sum = 0; sum < 4; ++sum) config.set(sum, rows, 64);
    config.set(4, rows, 64);
    config.set(5, 16, 64);
    config.set(6, rows, 32);
    config.set(7, 8, 64);
    load_config(config);
  }

  template <int kCount>
  static void score_groups(int64_t /*rows*/, const Brain* queries, const Brain* const* keys,
                           int64_t head_size, float* scores, const Brain* const* /*ahead*/) {
    const int64_t query_bytes = head_size * static_cast<int64_t>(sizeof(Brain));
    memory_fence();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    int64_t d = 0;
    for (; d + 32 <= head_size; d += 32) {
      _tile_loadd(4, queries + d, query_bytes);
      _tile_loadd(5, keys[0] + d * simd::kGroup, 64);
      _tile_dpbf16ps(0, 4, 5);
      if constexpr (kCount == simd::kGroupsAtOnce) {
        _tile_loadd(5, keys[1] + d * simd::kGroup, 64);
        _tile_dpbf16ps(1, 4, 5);
        _tile_loadd(5, keys[2] + d * simd::kGroup, 64);
        _tile_dpbf16ps(2, 4, 5);
        _tile_loadd(5, keys[3] + d * simd::kGroup, 64);
        _tile_dpbf16ps(3, 4, 5);
      }
    }
    if (d < head_size) {
      _tile_loadd(6, queries + d, query_bytes);
      _tile_loadd(7, keys[0] + d * simd::kGroup, 64);
      _tile_dpbf16ps(0, 6, 7);
      if constexpr (kCount == simd::kGroupsAtOnce) {
        _tile_loadd(7, keys[1] + d * simd::kGroup, 64);
        _tile_dpbf16ps(1, 6, 7);
        _tile_loadd(7, keys[2] + d * simd::kGroup, 64);
        _tile_dpbf16ps(2, 6, 7);
        _tile_loadd(7, keys[3] + d * simd::kGroup, 64);
        _tile_dpbf16ps(3, 6, 7);
      }
    }
    _tile_stored(0, scores, kScoreBytes);
    if constexpr (kCount == simd::kGroupsAtOnce) {
      _tile_stored(1, scores + simd::kGroup, kScoreBytes);
      _tile_stored(2, scores + 2 * simd::kGroup, kScoreBytes);
      _tile_stored(3, scores + 3 * simd::kGroup, kScoreBytes);
    }
    memory_fence();
  }

  template <int kCount>
  static void mix_columns(int64_t /*rows*/, const Brain* weights, const Brain* const* values,
                          int64_t num_groups, int64_t head_size, float* part,
                          const Brain* const* /*ahead*/) {
    constexpr int64_t kWeightBytes = kSoftmaxSplit * sizeof(Brain);
    const int64_t part_bytes = head_size * static_cast<int64_t>(sizeof(float));
    const int64_t value_bytes = head_size * 4;
    memory_fence();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t g = 0; g < num_groups; ++g) {
      _tile_loadd(6, weights + g * simd::kGroup, kWeightBytes);
      _tile_loadd(7, values[g], value_bytes);
      _tile_dpbf16ps(0, 6, 7);
      if constexpr (kCount == simd::kGroupsAtOnce) {
        _tile_loadd(7, values[g] + 32, value_bytes);
        _tile_dpbf16ps(1, 6, 7);
        _tile_loadd(7, values[g] + 64, value_bytes);
        _tile_dpbf16ps(2, 6, 7);
        _tile_loadd(7, values[g] + 96, value_bytes);
        _tile_dpbf16ps(3, 6, 7);
      }
    }
    _tile_stored(0, part, part_bytes);
    if constexpr (kCount == simd::kGroupsAtOnce) {
      _tile_stored(1, part + 16, part_bytes);
      _tile_stored(2, part + 32, part_bytes);
      _tile_stored(3, part + 48, part_bytes);
    }
    memory_fence();
  }
};

}  // namespace

void write_kv_tiled(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                    int64_t num_rows) {
  simd::write_kv<Vec, Brain, Brain, simd::PairedLayout>(args, sequence, first_row, num_rows);
}

void attend_tiled(const AttentionArgs& args, const AttentionBlock& block) {
  if (block.num_rows * block.num_heads <= VectorProduct::kMaxRows) {
    return simd::attend_paired<Vec, VectorProduct>(args, block);
  }
  simd::attend_paired<Vec, TileProduct>(args, block);
  _tile_release();
}

}  // namespace sluice::kernels::cpu::amx
