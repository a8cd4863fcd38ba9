#include "kernels/cpu/amx/attention.h"
#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/simd/query_tile.h"
#include "kernels/cpu/simd/write_kv.h"

// bfloat16 attention over an int8 cache on AMX's tile registers, without widening the cache.
//
// A query becomes whole numbers of 15 bits with a scale of its own, v = 128 high + low with high
// and low in int8; so a score is two integer sums. A split's weights, times their positions' value
// scales, become whole numbers of 16 bits, 256 high + low, of the row's largest one. Both are finer
// than bfloat16, all sums are exact in int32, and so no order of additions matters.
//
// High and low parts are rows of tiles: both in one tile for up to eight query rows, which is as
// fast as one part alone where the tile would be mostly empty.
namespace sluice::kernels::cpu::amx {
namespace {

using avx512::Vec;
using simd::kAhead, simd::kGroup, simd::kGroupsAtOnce, simd::kSplitGroups, simd::kTileRows;
using simd::prefetch, simd::prefetch_first, simd::prefetch_starts;
using simd::QueryTile, simd::TiledCache, simd::TileSplit;

constexpr int64_t kScoreBytes = simd::kScoreStride * sizeof(int32_t);
constexpr float kQueryLevels = 127 * 128;
constexpr float kWeightLevels = 65535;

// Keys [D / 4][slots][4], values [S / 4][D][4].
struct QuadLayout {
  using Query = float;

  static void write(const simd::SlotRows<int8_t>& rows, int64_t count, int64_t slot, int64_t width,
                    int64_t head_size, int8_t* group, int8_t* values) {
    const int64_t lane = slot % kGroup;
    simd::scatter_words(rows.key, count, lane, width, head_size, group);
    for (int64_t i = 0; i < count;) {
      const int8_t* value = rows.value[i];
      int8_t* quad = values + (lane + i) / 4 * 4 * head_size;
      if ((lane + i) % 4 == 0 && i + 3 < count) {
        for (int64_t d = 0; d < head_size; d += 16) {
          simd::interleave(rows.value + i, d, quad + 4 * d);
        }
        i += 4;
      } else {
        for (int64_t d = 0; d < head_size; ++d) quad[4 * d + (lane + i) % 4] = value[d];
        i += 1;
      }
    }
  }
};

// The depth of a tile of keys: D in the fewest equal parts that are multiples of 4 and at most 64.
int64_t depth_of_tiles(int64_t head_size) {
  int64_t parts = (head_size + 63) / 64;
  while (head_size % (4 * parts) != 0) ++parts;
  return head_size / parts;
}

// Registers: sums 0 to 3; queries or weights 4 and 5, `depth` of them a row; keys or values 6
// and 7.
void configure_tiles(int64_t tile_rows, int64_t depth) {
  TileConfig config;
  for (int sum = 0; sum < 4; ++sum) config.set(sum, tile_rows, 64);
  config.set(4, tile_rows, static_cast<int>(depth));
  config.set(5, tile_rows, static_cast<int>(depth));
  config.set(6, depth / 4, 64);
  config.set(7, depth / 4, 64);
  load_config(config);
}

// Scores of four groups for queries in one tile.
void score_four(const int8_t* queries, const int8_t* const* keys, int64_t head_size, int64_t depth,
                int32_t* scores) {
  memory_fence();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t d = 0; d < head_size; d += depth) {
    _tile_loadd(4, queries + d, head_size);
    _tile_loadd(6, keys[0] + d * kGroup, 64);
    _tile_dpbssd(0, 4, 6);
    _tile_loadd(7, keys[1] + d * kGroup, 64);
    _tile_dpbssd(1, 4, 7);
    _tile_loadd(6, keys[2] + d * kGroup, 64);
    _tile_dpbssd(2, 4, 6);
    _tile_loadd(7, keys[3] + d * kGroup, 64);
    _tile_dpbssd(3, 4, 7);
  }
  _tile_stored(0, scores, kScoreBytes);
  _tile_stored(1, scores + kGroup, kScoreBytes);
  _tile_stored(2, scores + 2 * kGroup, kScoreBytes);
  _tile_stored(3, scores + 3 * kGroup, kScoreBytes);
  memory_fence();
}

// Scores of one group for queries in one tile.
void score_one(const int8_t* queries, const int8_t* keys, int64_t head_size, int64_t depth,
               int32_t* scores) {
  memory_fence();
  _tile_zero(0);
  for (int64_t d = 0; d < head_size; d += depth) {
    _tile_loadd(4, queries + d, head_size);
    _tile_loadd(6, keys + d * kGroup, 64);
    _tile_dpbssd(0, 4, 6);
  }
  _tile_stored(0, scores, kScoreBytes);
  memory_fence();
}

// Scores of two groups for sixteen queries: high parts in one tile, low ones in another.
void score_pair(const int8_t* queries, const int8_t* const* keys, int64_t head_size, int64_t depth,
                int32_t* scores) {
  const int8_t* low = queries + kTileRows * head_size;
  int32_t* low_scores = scores + kTileRows * simd::kScoreStride;
  memory_fence();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t d = 0; d < head_size; d += depth) {
    _tile_loadd(4, queries + d, head_size);
    _tile_loadd(6, keys[0] + d * kGroup, 64);
    _tile_dpbssd(0, 4, 6);
    _tile_loadd(5, low + d, head_size);
    _tile_dpbssd(1, 5, 6);
    _tile_loadd(7, keys[1] + d * kGroup, 64);
    _tile_dpbssd(2, 4, 7);
    _tile_dpbssd(3, 5, 7);
  }
  _tile_stored(0, scores, kScoreBytes);
  _tile_stored(1, low_scores, kScoreBytes);
  _tile_stored(2, scores + kGroup, kScoreBytes);
  _tile_stored(3, low_scores + kGroup, kScoreBytes);
  memory_fence();
}

// Weighted values of kColumns tiles of columns: all weights in one tile, 16 positions a tile.
template <int kColumns>
void mix_single(const uint8_t* weights, const int8_t* const* values, int64_t num_tiles,
                int64_t head_size, int32_t* sums) {
  const int64_t row_bytes = head_size * 4;
  memory_fence();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t t = 0; t < num_tiles; ++t) {
    _tile_loadd(4, weights + t * kGroup, kSoftmaxSplit);
    _tile_loadd(6, values[t], row_bytes);
    _tile_dpbusd(0, 4, 6);
    if constexpr (kColumns == kGroupsAtOnce) {
      _tile_loadd(7, values[t] + 64, row_bytes);
      _tile_dpbusd(1, 4, 7);
      _tile_loadd(6, values[t] + 128, row_bytes);
      _tile_dpbusd(2, 4, 6);
      _tile_loadd(7, values[t] + 192, row_bytes);
      _tile_dpbusd(3, 4, 7);
    }
  }
  _tile_stored(0, sums, row_bytes);
  if constexpr (kColumns == kGroupsAtOnce) {
    _tile_stored(1, sums + 16, row_bytes);
    _tile_stored(2, sums + 32, row_bytes);
    _tile_stored(3, sums + 48, row_bytes);
  }
  memory_fence();
}

// The same with high and low weights in two tiles, 64 positions a tile.
template <int kColumns>
void mix_double(const uint8_t* weights, const int8_t* const* values, int64_t num_tiles,
                int64_t head_size, int32_t* sums) {
  constexpr int64_t kStep = 4 * kGroup;
  const int64_t row_bytes = head_size * 4;
  const uint8_t* low = weights + kTileRows * kSoftmaxSplit;
  int32_t* low_sums = sums + kTileRows * head_size;
  memory_fence();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t t = 0; t < num_tiles; ++t) {
    _tile_loadd(4, weights + t * kStep, kSoftmaxSplit);
    _tile_loadd(5, low + t * kStep, kSoftmaxSplit);
    _tile_loadd(6, values[t], row_bytes);
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 5, 6);
    if constexpr (kColumns == 2) {
      _tile_loadd(7, values[t] + 64, row_bytes);
      _tile_dpbusd(2, 4, 7);
      _tile_dpbusd(3, 5, 7);
    }
  }
  _tile_stored(0, sums, row_bytes);
  _tile_stored(1, low_sums, row_bytes);
  if constexpr (kColumns == 2) {
    _tile_stored(2, sums + 16, row_bytes);
    _tile_stored(3, low_sums + 16, row_bytes);
  }
  memory_fence();
}

// high * factor + low, sixteen numbers.
Vec joined(const int32_t* high, const int32_t* low, int shift) {
  const __m512i sum =
      _mm512_add_epi32(_mm512_slli_epi32(_mm512_loadu_si512(high), shift), _mm512_loadu_si512(low));
  return {_mm512_cvtepi32_ps(sum)};
}

// A tile's queries, scores and weights, each as high and low parts: rows [0, rows) high and
// [rows, 2 rows) low in one tile, or [0, 16) high and [16, 32) low in two.
class FixedTile {
 public:
  FixedTile(const AttentionArgs& args, const AttentionBlock& block)
      : args_(args),
        head_(args, block),
        depth_(depth_of_tiles(args.head_size)),
        reads_once_(block.num_rows == 1) {}

  void start(const QueryTile<Vec>& tile) {
    rows_ = tile.rows;
    context_ = tile.last[tile.rows - 1];
    is_single_ = 2 * rows_ <= kTileRows;
    low_ = is_single_ ? rows_ : kTileRows;
    for (int64_t r = 0; r < rows_; ++r) {
      fix_query(static_cast<const float*>(args_.queries) + tile.offset[r], r);
    }
  }

  void score(const TileSplit<Vec>& split) {
    begin_ = split.begin;
    const int8_t* keys[kSplitGroups + 1];
    for (int64_t g = 0; g < split.num_groups; ++g) {
      keys[g] = head_.keys(split.split + split.begin + g * kGroup);
      values_[g] = keys[g] + head_.block_size * head_.head_size;
    }
    keys[split.num_groups] = keys[split.num_groups - 1];
    configure_tiles(is_single_ ? 2 * rows_ : kTileRows, depth_);
    int64_t g = 0;
    if (is_single_) {
      for (; g + kGroupsAtOnce <= split.num_groups; g += kGroupsAtOnce) {
        if (reads_once_) prefetch_starts(keys, g + kAhead, split.num_groups);
        score_four(queries_, keys + g, head_.head_size, depth_, scores(split, g));
        if (reads_once_) prefetch_values(g);
      }
      for (; g < split.num_groups; ++g) {
        score_one(queries_, keys[g], head_.head_size, depth_, scores(split, g));
      }
    } else {
      for (; g < split.num_groups; g += 2) {
        score_pair(queries_, keys + g, head_.head_size, depth_, scores(split, g));
      }
    }
    load_scales(split);
  }

  void weigh(const TileSplit<Vec>& split, const simd::SplitRow& row, bool attends, int64_t r,
             float& largest, float& total) {
    const int end = split.begin + static_cast<int>((split.num_groups + 3) / 4 * 4 * kGroup);
    steps_[r] = 0;
    if (!attends) return clear_weights(r, split.begin, end);
    const int32_t* high = scores_[r];
    const int32_t* low = scores_[low_ + r];
    const Vec query_scale = Vec::set(query_scales_[r]);
    alignas(64) float scaled[kSoftmaxSplit];
    Vec most = Vec::zero();
    Vec poison = Vec::zero();
    const auto raw = [&](int p) {
      return joined(high + p, low + p, 7) * query_scale * Vec::load(key_scales_ + p);
    };
    total = simd::weigh<Vec>(
        row, raw, scaled,
        [&](Vec weight, int p) {
          const Vec value = weight * own_scales(row, p);
          value.store(scaled + p);
          most = Vec::max(value, most);
          poison = Vec::fma(value, Vec::zero(), poison);
        },
        largest);
    const float bound = Vec::largest(most);
    const Vec inverse = Vec::set(bound > 0 ? kWeightLevels / bound : 0);
    // A NaN or an infinity among the weights or the value scales makes every output number one.
    steps_[r] = bound / kWeightLevels + Vec::sum(poison);
    const int first = row.first - row.first % 16;
    const int last = (row.last + 15) / 16 * 16;
    clear_weights(r, split.begin, first);
    for (int p = first; p < last; p += 16) {
      const __m512i level = _mm512_cvtps_epi32((Vec::load(scaled + p) * inverse).v);
      store_bytes(_mm512_srli_epi32(level, 8), weights_[r] + (p - begin_));
      store_bytes(level, weights_[low_ + r] + (p - begin_));
    }
    clear_weights(r, last, end);
  }

  void mix(const TileSplit<Vec>& split) {
    if (reads_once_) prefetch_first(head_, split.split + kSoftmaxSplit, context_);

    is_single_ ? mix_in_one(split) : mix_in_two(split);
    for (int64_t r = 0; r < rows_; ++r) {
      const Vec step = Vec::set(steps_[r]);
      for (int64_t d = 0; d < head_.head_size; d += 16) {
        const int32_t* sum = sums_ + r * head_.head_size + d;
        (joined(sum, sum + low_ * head_.head_size, 8) * step)
            .store(part_ + r * head_.head_size + d);
      }
    }
  }

  const float* part(int64_t r) const { return part_ + r * head_.head_size; }

 private:
  void fix_query(const float* query, int64_t r) {
    Vec most = Vec::zero();
    Vec poison = Vec::zero();
    for (int64_t d = 0; d < head_.head_size; d += 16) {
      const Vec x = Vec::load(query + d);
      most = Vec::max(Vec::abs(x), most);
      poison = poison + x * Vec::zero();
    }
    const float largest = Vec::largest(most) + Vec::sum(poison);
    query_scales_[r] = largest / kQueryLevels;
    const Vec inverse = Vec::set(largest >= kSmallestQuantized ? kQueryLevels / largest : 0);
    for (int64_t d = 0; d < head_.head_size; d += 16) {
      const __m512i level = _mm512_cvtps_epi32((Vec::load(query + d) * inverse).v);
      const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(level, _mm512_set1_epi32(64)), 7);
      const __m512i low = _mm512_sub_epi32(level, _mm512_slli_epi32(high, 7));
      store_bytes(high, queries_ + r * head_.head_size + d);
      store_bytes(low, queries_ + (low_ + r) * head_.head_size + d);
    }
  }

  // The lowest byte of each number.
  static void store_bytes(__m512i x, void* bytes) {
    _mm_storeu_si128(static_cast<__m128i*>(bytes), _mm512_cvtepi32_epi8(x));
  }

  // Value scales of the row's own positions; 0 for the others, which may hold anything.
  Vec own_scales(const simd::SplitRow& row, int position) const {
    const Vec scales = Vec::load(value_scales_ + position);
    if (position >= row.first && position + 16 <= row.last) return scales;
    return Vec::keep(scales, row.first - position, row.last - position, Vec::zero());
  }

  void clear_weights(int64_t r, int begin, int end) {
    for (int p = begin; p < end; p += 16) {
      const int64_t i = p - begin_;
      _mm_storeu_si128(reinterpret_cast<__m128i*>(weights_[r] + i), _mm_setzero_si128());
      _mm_storeu_si128(reinterpret_cast<__m128i*>(weights_[low_ + r] + i), _mm_setzero_si128());
    }
  }

  // Reads ahead the values of four groups, and the scales behind them.
  void prefetch_values(int64_t group) const {
    for (int64_t g = group; g < group + kGroupsAtOnce; ++g) {
      prefetch(values_[g], kGroup * (head_.head_size + kInt8SlotScaleBytes));
    }
  }

  void load_scales(const TileSplit<Vec>& split) {
    for (int64_t g = 0; g < split.num_groups; ++g) {
      const int64_t position = split.split + split.begin + g * kGroup;
      const float* scales =
          simd::scales_of(head_.block(position), head_.block_size, head_.head_size) +
          position % head_.block_size;
      Vec::load(scales).store(key_scales_ + split.begin + g * kGroup);
      Vec::load(scales + head_.block_size).store(value_scales_ + split.begin + g * kGroup);
    }
  }

  int32_t* scores(const TileSplit<Vec>& split, int64_t group) {
    return scores_[0] + split.begin + group * kGroup;
  }

  // Sixteen positions at a time, straight from the cache.
  void mix_in_one(const TileSplit<Vec>& split) {
    configure_tiles(2 * rows_, kGroup);
    int64_t d = 0;
    const auto advance = [&](int64_t columns) {
      d += columns;
      for (int64_t g = 0; g < split.num_groups; ++g) values_[g] += 4 * columns;
    };
    while (d + 64 <= head_.head_size) {
      mix_single<kGroupsAtOnce>(weights_[0], values_, split.num_groups, head_.head_size, sums_ + d);
      advance(64);
    }
    while (d < head_.head_size) {
      mix_single<1>(weights_[0], values_, split.num_groups, head_.head_size, sums_ + d);
      advance(16);
    }
  }

  // Sixty-four positions at a time, from four groups brought together: a tile of sixteen rows takes
  // as long with a quarter of the depth. Groups past the split's last meet weights of zero.
  void mix_in_two(const TileSplit<Vec>& split) {
    const int64_t group_bytes = kGroup * head_.head_size;
    for (int64_t g = 0; g < split.num_groups; ++g) {
      __builtin_memcpy(staged_ + g * group_bytes, values_[g], group_bytes);
    }
    const int64_t num_tiles = (split.num_groups + 3) / 4;
    const int8_t* values[kSplitGroups / 4];
    for (int64_t t = 0; t < num_tiles; ++t) values[t] = staged_ + 4 * t * group_bytes;
    configure_tiles(kTileRows, 4 * kGroup);
    int64_t d = 0;
    const auto advance = [&](int64_t columns) {
      d += columns;
      for (int64_t t = 0; t < num_tiles; ++t) values[t] += 4 * columns;
    };
    while (d + 32 <= head_.head_size) {
      mix_double<2>(weights_[0], values, num_tiles, head_.head_size, sums_ + d);
      advance(32);
    }
    if (d < head_.head_size) {
      mix_double<1>(weights_[0], values, num_tiles, head_.head_size, sums_ + d);
    }
  }

  const AttentionArgs& args_;
  TiledCache<Vec, int8_t> head_;
  int64_t depth_;
  bool reads_once_;
  bool is_single_ = false;
  int64_t rows_ = 0;
  int64_t low_ = 0;  // the row of the first low part
  int64_t context_ = 0;
  int begin_ = 0;  // the first position of `weights_`
  const int8_t* values_[kSplitGroups];
  float query_scales_[kTileRows];
  float steps_[kTileRows];
  alignas(64) float key_scales_[kSoftmaxSplit];
  alignas(64) float value_scales_[kSoftmaxSplit];
  alignas(64) int8_t queries_[2 * kTileRows * kMaxHeadSize];
  alignas(64) int32_t scores_[2 * kTileRows][simd::kScoreStride];
  alignas(64) uint8_t weights_[2 * kTileRows][kSoftmaxSplit];
  alignas(64) int32_t sums_[2 * kTileRows * kMaxHeadSize];
  alignas(64) float part_[kTileRows * kMaxHeadSize];
  alignas(64) int8_t staged_[kSoftmaxSplit * kMaxHeadSize];
};

}  // namespace

void write_int8_kv_tiled(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                         int64_t num_rows) {
  simd::write_kv<Vec, Brain, int8_t, QuadLayout>(args, sequence, first_row, num_rows);
}

void attend_int8_tiled(const AttentionArgs& args, const AttentionBlock& block) {
  FixedTile tile(args, block);
  for (int64_t i = 0; i < block.num_rows * block.num_heads; i += kTileRows) {
    simd::attend_tile<Vec, FixedTile, Brain>(args, block, i, tile);
  }
  _tile_release();
}

}  // namespace sluice::kernels::cpu::amx
