#pragma once

#include "kernels/cpu/simd/query_tile.h"
#include "kernels/cpu/simd/write_kv.h"

// bfloat16 attention by products of pairs, as TDPBF16PS and VDPBF16PS make them: up to sixteen
// query rows against sixteen positions at a time. Queries and softmax weights are rounded to
// bfloat16, all sums are float32.
//
// A score is a chain over D, an output number a chain over positions, in groups of 16 that start at
// multiples of 16. A group that a row does not attend to adds zeros, and changes no bit: so a row
// may share a tile with any others.
//
// A Product multiplies for the rows of a tile:
//   configure(rows)  before the others
//   score_groups<C>  scores[row][c * 16 ..] = query[row] . keys[c] for C groups of positions
//   mix_columns<C>   part[row][0 .. 16 C) = sum of weight[row] * value over groups of positions
// Queries are [rows][D], scores [rows][kScoreStride], weights [rows][kSoftmaxSplit], part
// [rows][D]. One that kReadsAhead gets, for each group, one of NextGroups or nullptr for all, whose
// lines it prefetches one by one meanwhile.
namespace sluice::kernels::cpu::simd {

// Values of two positions side by side, as TDPBF16PS takes them. The rest of a group is cleared
// with its first position: what an earlier user left there, perhaps NaN, meets a weight of zero.
struct PairedLayout {
  using Query = Brain;

  static void write(const SlotRows<Brain>& rows, int64_t count, int64_t slot, int64_t width,
                    int64_t head_size, Brain* group, Brain* values) {
    const int64_t lane = slot % kGroup;
    scatter_words(rows.key, count, lane, width, head_size, group);
    if (lane == 0 && count < kGroup) {
      __builtin_memset(values, 0, kGroup * head_size * sizeof(Brain));
    }
    for (int64_t i = 0; i < count;) {
      const Brain* value = rows.value[i];
      Brain* pair = values + (lane + i) / 2 * 2 * head_size;
      if ((lane + i) % 2 == 0 && i + 1 < count) {
        for (int64_t d = 0; d < head_size; d += 16) {
          interleave(&value[d].bits, &rows.value[i + 1][d].bits, &pair[2 * d].bits);
        }
        i += 2;
      } else {
        for (int64_t d = 0; d < head_size; ++d) pair[2 * d + (lane + i) % 2] = value[d];
        i += 1;
      }
    }
  }
};

// What a Product of vectors mixes: numbers from `first` on of two positions' values side by side.
// Weights are [rows][kSoftmaxSplit].
template <typename Weight>
struct MixedValues {
  const Weight* weights;
  const Brain* const* values;
  const Brain* const* ahead;
  int64_t first;
  int64_t num_groups;
  int64_t head_size;
};

// A tile's queries, scores and weights.
template <typename V, typename Product>
class BrainTile {
 public:
  BrainTile(const AttentionArgs& args, const AttentionBlock& block)
      : args_(args), reader_(args, block), head_(reader_.head()) {}

  void start(const QueryTile<V>& tile) {
    rows_ = tile.rows;
    reader_.start(tile);
    Product::configure(rows_);
    const auto* queries = static_cast<const Brain*>(args_.queries);
    for (int64_t r = 0; r < rows_; ++r) {
      __builtin_memcpy(queries_ + r * head_.head_size, queries + tile.offset[r],
                       head_.head_size * sizeof(Brain));
    }
  }

  void score(const TileSplit<V>& split) {
    const Brain* keys[kSplitGroups];
    reader_.find(split, keys, values_);
    int64_t g = 0;
    for (; g + kGroupsAtOnce <= split.num_groups; g += kGroupsAtOnce) {
      if (reader_.prefetches()) prefetch_starts(keys, g + kAhead, split.num_groups);
      Product::template score_groups<kGroupsAtOnce>(rows_, queries_, keys + g, head_.head_size,
                                                    scores(split, g), reader_.next_keys(g));
      if (reader_.prefetches()) prefetch_values(g);
    }
    for (; g < split.num_groups; ++g) {
      Product::template score_groups<1>(rows_, queries_, keys + g, head_.head_size,
                                        scores(split, g), reader_.next_keys(g));
    }
  }

  void weigh(const TileSplit<V>& split, const SplitRow& row, bool attends, int64_t r,
             float& largest, float& total) {
    float* scores = scores_[r];
    Brain* weights = weights_[r] - split.begin;
    int position = split.begin;
    if (attends) {
      for (; position + kGroup <= row.first; position += kGroup) {
        V::zero().store(weights + position);
      }
      total = simd::weigh<V>(
          row, [&](int p) { return V::load(scores + p); }, scores,
          [&](V weight, int p) { weight.store(weights + p); }, largest);
      position = (row.last + 15) / 16 * 16;
    }
    for (; position < split.end; position += kGroup) V::zero().store(weights + position);
  }

  void mix(const TileSplit<V>& split) {
    reader_.prefetch_split_after(split);
    const Brain** ahead = reader_.next_values();
    int64_t d = 0;
    const auto advance = [&](int64_t columns) {
      d += columns;
      for (int64_t g = 0; g < split.num_groups; ++g) {
        values_[g] += 2 * columns;
        if (ahead != nullptr) ahead[g] += 2 * columns;
      }
    };
    while (d + 64 <= head_.head_size) {
      Product::template mix_columns<kGroupsAtOnce>(rows_, weights_[0], values_, split.num_groups,
                                                   head_.head_size, part_ + d, ahead);
      advance(64);
    }
    while (d < head_.head_size) {
      Product::template mix_columns<1>(rows_, weights_[0], values_, split.num_groups,
                                       head_.head_size, part_ + d, ahead);
      advance(16);
    }
  }

  const float* part(int64_t r) const { return part_ + r * head_.head_size; }

 private:
  // Reads ahead the values of four groups.
  void prefetch_values(int64_t group) const {
    for (int64_t g = group; g < group + kGroupsAtOnce; ++g) {
      prefetch(values_[g], kGroup * head_.head_size * static_cast<int64_t>(sizeof(Brain)));
    }
  }

  float* scores(const TileSplit<V>& split, int64_t group) {
    return scores_[0] + split.begin + group * kGroup;
  }

  const AttentionArgs& args_;
  TileReader<V, Brain, Product> reader_;
  const TiledCache<V, Brain>& head_;
  int64_t rows_ = 0;
  const Brain* values_[kSplitGroups];
  alignas(64) Brain queries_[kTileRows * kMaxHeadSize];
  alignas(64) float scores_[kTileRows][kScoreStride];
  alignas(64) Brain weights_[kTileRows][kSoftmaxSplit];
  alignas(64) float part_[kTileRows * kMaxHeadSize];
};

template <typename V, typename Product>
inline void attend_paired(const AttentionArgs& args, const AttentionBlock& block) {
  BrainTile<V, Product> tile(args, block);
  for (int64_t i = 0; i < block.num_rows * block.num_heads; i += kTileRows) {
    attend_tile<V, BrainTile<V, Product>, Brain>(args, block, i, tile);
  }
}

}  // namespace sluice::kernels::cpu::simd
