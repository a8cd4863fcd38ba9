#pragma once

#include "kernels/cpu/avx512/basic_vec.h"
#include "kernels/cpu/simd/query_tile.h"
#include "kernels/cpu/simd/write_kv.h"

// bfloat16 attention over an int8 cache by products of bytes, as TDPBUSD and VPDPBUSD make them,
// without widening the cache.
//
// A query becomes whole numbers of 15 bits with a scale of its own, so that a score is an integer.
// A split's weights, times their positions' value scales, become whole numbers of 16 bits, of the
// row's largest one. Both are finer than bfloat16, and all sums are exact in int32: no order of
// additions matters, and every product gives the same bits.
//
// A Product multiplies for the rows of a tile, and keeps their numbers as two parts of a byte each:
//   start(rows)                     before the others
//   set_query(r, d, levels)         sixteen numbers of a row's query, at most kQueryLevels
//   set_weights(r, p, levels)       sixteen weights, 0 to kWeightLevels; p is a multiple of 16 and
//                                   counts from the first group's start
//   start_scores()                  before a split's calls to `score`
//   groups_at_once()                groups of one such call at most
//   score(keys, count, to, ahead)   queries times keys of a few groups, kept for positions from
//                                   `to` on; `keys` has one more, which may be read
//   raw(r, position)                sixteen of those scores
//   mix(values, num_groups, ahead)  weights times values; both arrays may be moved on
//   mixed(r, d)                     sixteen of those sums
// One that kReadsAhead gets, for each group, one of simd::NextGroups or nullptr for all, whose
// lines it prefetches one by one meanwhile.
namespace sluice::kernels::cpu::avx512 {

using simd::kGroup, simd::kGroupsAtOnce, simd::kSplitGroups, simd::kTileRows;

inline constexpr int kQueryLevels = 127 * 128;
inline constexpr int kWeightLevels = 65535;

// Keys [D / 4][slots][4], values [S / 4][D][4]. (A template over Vec for the instruction set's
// sake, see kernel_table.h.)
template <typename Vec>
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

// The lowest byte of each number.
static inline void store_low_bytes(__m512i x, void* bytes) {
  _mm_storeu_si128(static_cast<__m128i*>(bytes), _mm512_cvtepi32_epi8(x));
}

// high * 2^shift + low, sixteen numbers; wraps.
static inline __m512i joined(__m512i high, __m512i low, int shift) {
  return _mm512_add_epi32(_mm512_slli_epi32(high, static_cast<unsigned>(shift)), low);
}

template <typename Vec, typename Product>
class FixedTile {
 public:
  FixedTile(const AttentionArgs& args, const AttentionBlock& block)
      : args_(args), reader_(args, block), head_(reader_.head()), product_(args.head_size) {}

  void start(const simd::QueryTile<Vec>& tile) {
    rows_ = tile.rows;
    reader_.start(tile);
    product_.start(rows_);
    for (int64_t r = 0; r < rows_; ++r) {
      fix_query(static_cast<const float*>(args_.queries) + tile.offset[r], r);
    }
  }

  void score(const simd::TileSplit<Vec>& split) {
    const int8_t* keys[kSplitGroups + 1];
    reader_.find(split, keys, values_);
    keys[split.num_groups] = keys[split.num_groups - 1];
    product_.start_scores();
    const int64_t most = product_.groups_at_once();
    for (int64_t g = 0; g < split.num_groups; g += most) {
      const int64_t left = split.num_groups - g;
      if (reader_.prefetches()) simd::prefetch_starts(keys, g + simd::kAhead, split.num_groups);
      product_.score(keys + g, left < most ? left : most, split.begin + g * kGroup,
                     reader_.next_keys(g));
      if (reader_.prefetches()) prefetch_values(g, left < most ? left : most);
    }
    load_scales(split);
  }

  void weigh(const simd::TileSplit<Vec>& split, const simd::SplitRow& row, bool attends, int64_t r,
             float& largest, float& total) {
    const int end = split.begin + static_cast<int>((split.num_groups + 3) / 4 * 4 * kGroup);
    steps_[r] = 0;
    if (!attends) return clear_weights(split, r, split.begin, end);
    const Vec query_scale = Vec::set(query_scales_[r]);
    alignas(64) float scaled[kSoftmaxSplit];
    Vec most = Vec::zero();
    Vec poison = Vec::zero();
    const auto raw = [&](int p) {
      const Vec score{_mm512_cvtepi32_ps(product_.raw(r, p))};
      return score * query_scale * Vec::load(key_scales_ + p);
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
    clear_weights(split, r, split.begin, first);
    for (int p = first; p < last; p += 16) {
      product_.set_weights(r, p - split.begin,
                           _mm512_cvtps_epi32((Vec::load(scaled + p) * inverse).v));
    }
    clear_weights(split, r, last, end);
  }

  void mix(const simd::TileSplit<Vec>& split) {
    reader_.prefetch_split_after(split);
    product_.mix(values_, split.num_groups, reader_.next_values());
    for (int64_t r = 0; r < rows_; ++r) {
      const Vec step = Vec::set(steps_[r]);
      for (int64_t d = 0; d < head_.head_size; d += 16) {
        const Vec sum{_mm512_cvtepi32_ps(product_.mixed(r, d))};
        (sum * step).store(part_ + r * head_.head_size + d);
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
      product_.set_query(r, d, _mm512_cvtps_epi32((Vec::load(query + d) * inverse).v));
    }
  }

  // Value scales of the row's own positions; 0 for the others, which may hold anything.
  Vec own_scales(const simd::SplitRow& row, int position) const {
    const Vec scales = Vec::load(value_scales_ + position);
    if (position >= row.first && position + 16 <= row.last) return scales;
    return Vec::keep(scales, row.first - position, row.last - position, Vec::zero());
  }

  void clear_weights(const simd::TileSplit<Vec>& split, int64_t r, int begin, int end) {
    for (int p = begin; p < end; p += 16) {
      product_.set_weights(r, p - split.begin, _mm512_setzero_si512());
    }
  }

  // Reads ahead the values of a few groups, and the scales behind them.
  void prefetch_values(int64_t group, int64_t count) const {
    for (int64_t g = group; g < group + count; ++g) {
      simd::prefetch(values_[g], kGroup * (head_.head_size + kInt8SlotScaleBytes));
    }
  }

  void load_scales(const simd::TileSplit<Vec>& split) {
    for (int64_t g = 0; g < split.num_groups; ++g) {
      const int64_t position = split.split + split.begin + g * kGroup;
      const float* scales =
          simd::scales_of(head_.block(position), head_.block_size, head_.head_size) +
          position % head_.block_size;
      Vec::load(scales).store(key_scales_ + split.begin + g * kGroup);
      Vec::load(scales + head_.block_size).store(value_scales_ + split.begin + g * kGroup);
    }
  }

  const AttentionArgs& args_;
  simd::TileReader<Vec, int8_t, Product> reader_;
  const simd::TiledCache<Vec, int8_t>& head_;
  int64_t rows_ = 0;
  const int8_t* values_[kSplitGroups];
  float query_scales_[kTileRows];
  float steps_[kTileRows];
  alignas(64) float key_scales_[kSoftmaxSplit];
  alignas(64) float value_scales_[kSoftmaxSplit];
  alignas(64) float part_[kTileRows * kMaxHeadSize];
  Product product_;
};

// KernelTable::write_kv and ::attend over an int8 cache, for bfloat16 where simd::is_paired.
template <typename Vec>
inline void write_fixed(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                        int64_t num_rows) {
  simd::write_kv<Vec, Brain, int8_t, QuadLayout<Vec>>(args, sequence, first_row, num_rows);
}

template <typename Vec, typename Product>
inline void attend_fixed(const AttentionArgs& args, const AttentionBlock& block) {
  FixedTile<Vec, Product> tile(args, block);
  for (int64_t i = 0; i < block.num_rows * block.num_heads; i += kTileRows) {
    simd::attend_tile<Vec, FixedTile<Vec, Product>, Brain>(args, block, i, tile);
  }
}

}  // namespace sluice::kernels::cpu::avx512
