#include "kernels/cpu/amx/attention.h"

#include "kernels/cpu/amx/query_tile.h"
#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/simd/write_kv.h"

// bfloat16 attention on AMX's tile registers: sixteen query rows against sixteen positions at a
// time. Queries and softmax weights are rounded to bfloat16, all sums are float32.
//
// A score is a chain of TDPBF16PS over D, 32 numbers at a time; an output number is a chain over
// positions, in groups of 16 that start at multiples of 16. A group that a row does not attend to
// adds zeros, and changes no bit: so a row may share tiles with any other.
namespace sluice::kernels::cpu::amx {
namespace {

constexpr int64_t kScoreBytes = simd::kScoreStride * sizeof(float);

// Values of two positions side by side, as TDPBF16PS takes them. The rest of a group is cleared
// with its first position: what an earlier user left there, perhaps NaN, meets a weight of zero.
struct PairedLayout {
  using Query = Brain;

  static void write(const simd::SlotRows<Brain>& rows, int64_t count, int64_t slot, int64_t width,
                    int64_t head_size, Brain* group, Brain* values) {
    const int64_t lane = slot % kGroup;
    simd::scatter_words(rows.key, count, lane, width, head_size, group);
    if (lane == 0 && count < kGroup) {
      __builtin_memset(values, 0, kGroup * head_size * sizeof(Brain));
    }
    for (int64_t i = 0; i < count;) {
      const Brain* value = rows.value[i];
      Brain* pair = values + (lane + i) / 2 * 2 * head_size;
      if ((lane + i) % 2 == 0 && i + 1 < count) {
        for (int64_t d = 0; d < head_size; d += 16) {
          simd::interleave(&value[d].bits, &rows.value[i + 1][d].bits, &pair[2 * d].bits);
        }
        i += 2;
      } else {
        for (int64_t d = 0; d < head_size; ++d) pair[2 * d + (lane + i) % 2] = value[d];
        i += 1;
      }
    }
  }
};

// Registers: sums 0 to 3; a query's 32 numbers 4 and 32 rows of keys 5; 16 numbers of a query, or
// weights of 16 positions, 6 and 16 rows of keys or values 7.
void configure(int64_t rows) {
  TileConfig config;
  for (int sum = 0; sum < 4; ++sum) config.set(sum, rows, 64);
  config.set(4, rows, 64);
  config.set(5, 16, 64);
  config.set(6, rows, 32);
  config.set(7, 8, 64);
  load_config(config);
}

// scores[row][c * 16 ..] = query[row] . keys[c] for kCount groups of positions.
template <int kCount>
void score_groups(const Brain* queries, const Brain* const* keys, int64_t head_size,
                  float* scores) {
  const int64_t query_bytes = head_size * static_cast<int64_t>(sizeof(Brain));
  memory_fence();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  int64_t d = 0;
  for (; d + 32 <= head_size; d += 32) {
    _tile_loadd(4, queries + d, query_bytes);
    _tile_loadd(5, keys[0] + d * kGroup, 64);
    _tile_dpbf16ps(0, 4, 5);
    if constexpr (kCount == kGroupsAtOnce) {
      _tile_loadd(5, keys[1] + d * kGroup, 64);
      _tile_dpbf16ps(1, 4, 5);
      _tile_loadd(5, keys[2] + d * kGroup, 64);
      _tile_dpbf16ps(2, 4, 5);
      _tile_loadd(5, keys[3] + d * kGroup, 64);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
  if (d < head_size) {
    _tile_loadd(6, queries + d, query_bytes);
    _tile_loadd(7, keys[0] + d * kGroup, 64);
    _tile_dpbf16ps(0, 6, 7);
    if constexpr (kCount == kGroupsAtOnce) {
      _tile_loadd(7, keys[1] + d * kGroup, 64);
      _tile_dpbf16ps(1, 6, 7);
      _tile_loadd(7, keys[2] + d * kGroup, 64);
      _tile_dpbf16ps(2, 6, 7);
      _tile_loadd(7, keys[3] + d * kGroup, 64);
      _tile_dpbf16ps(3, 6, 7);
    }
  }
  _tile_stored(0, scores, kScoreBytes);
  if constexpr (kCount == kGroupsAtOnce) {
    _tile_stored(1, scores + kGroup, kScoreBytes);
    _tile_stored(2, scores + 2 * kGroup, kScoreBytes);
    _tile_stored(3, scores + 3 * kGroup, kScoreBytes);
  }
  memory_fence();
}

// part[row][d ..] = sum of weight[row] * value over `num_groups` groups, kCount tiles of columns.
template <int kCount>
void mix_columns(const Brain* weights, const Brain* const* values, int64_t num_groups,
                 int64_t head_size, float* part) {
  constexpr int64_t kWeightBytes = kSoftmaxSplit * sizeof(Brain);
  const int64_t part_bytes = head_size * static_cast<int64_t>(sizeof(float));
  const int64_t value_bytes = head_size * 4;
  memory_fence();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t g = 0; g < num_groups; ++g) {
    _tile_loadd(6, weights + g * kGroup, kWeightBytes);
    _tile_loadd(7, values[g], value_bytes);
    _tile_dpbf16ps(0, 6, 7);
    if constexpr (kCount == kGroupsAtOnce) {
      _tile_loadd(7, values[g] + 32, value_bytes);
      _tile_dpbf16ps(1, 6, 7);
      _tile_loadd(7, values[g] + 64, value_bytes);
      _tile_dpbf16ps(2, 6, 7);
      _tile_loadd(7, values[g] + 96, value_bytes);
      _tile_dpbf16ps(3, 6, 7);
    }
  }
  _tile_stored(0, part, part_bytes);
  if constexpr (kCount == kGroupsAtOnce) {
    _tile_stored(1, part + 16, part_bytes);
    _tile_stored(2, part + 32, part_bytes);
    _tile_stored(3, part + 48, part_bytes);
  }
  memory_fence();
}

// A tile's queries, scores and weights.
class BrainTile {
 public:
  BrainTile(const AttentionArgs& args, const AttentionBlock& block)
      : args_(args), head_(args, block), reads_once_(block.num_rows == 1) {}

  void start(const QueryTile<Vec>& tile) {
    rows_ = tile.rows;
    context_ = tile.last[tile.rows - 1];
    configure(rows_);
    const auto* queries = static_cast<const Brain*>(args_.queries);
    for (int64_t r = 0; r < rows_; ++r) {
      __builtin_memcpy(queries_ + r * head_.head_size, queries + tile.offset[r],
                       head_.head_size * sizeof(Brain));
    }
  }

  void score(const TileSplit<Vec>& split) {
    const Brain* keys[kSplitGroups];
    for (int64_t g = 0; g < split.num_groups; ++g) {
      keys[g] = head_.keys(split.split + split.begin + g * kGroup);
      values_[g] = keys[g] + head_.block_size * head_.head_size;
    }
    int64_t g = 0;
    for (; g + kGroupsAtOnce <= split.num_groups; g += kGroupsAtOnce) {
      if (reads_once_) prefetch_starts(keys, g + kAhead, split.num_groups);
      score_groups<kGroupsAtOnce>(queries_, keys + g, head_.head_size, scores(split, g));
      if (reads_once_) prefetch_values(g);
    }
    for (; g < split.num_groups; ++g) {
      score_groups<1>(queries_, keys + g, head_.head_size, scores(split, g));
    }
  }

  void weigh(const TileSplit<Vec>& split, const simd::SplitRow& row, bool attends, int64_t r,
             float& largest, float& total) {
    float* scores = scores_[r];
    Brain* weights = weights_[r] - split.begin;
    int position = split.begin;
    if (attends) {
      for (; position + kGroup <= row.first; position += kGroup) {
        Vec::zero().store(weights + position);
      }
      total = simd::weigh<Vec>(
          row, [&](int p) { return Vec::load(scores + p); }, scores,
          [&](Vec weight, int p) { weight.store(weights + p); }, largest);
      position = (row.last + 15) / 16 * 16;
    }
    for (; position < split.end; position += kGroup) Vec::zero().store(weights + position);
  }

  void mix(const TileSplit<Vec>& split) {
    if (reads_once_) prefetch_first(head_, split.split + kSoftmaxSplit, context_);

    int64_t d = 0;
    const auto advance = [&](int64_t columns) {
      d += columns;
      for (int64_t g = 0; g < split.num_groups; ++g) values_[g] += 2 * columns;
    };
    while (d + 64 <= head_.head_size) {
      mix_columns<kGroupsAtOnce>(weights_[0], values_, split.num_groups, head_.head_size,
                                 part_ + d);
      advance(64);
    }
    while (d < head_.head_size) {
      mix_columns<1>(weights_[0], values_, split.num_groups, head_.head_size, part_ + d);
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

  float* scores(const TileSplit<Vec>& split, int64_t group) {
    return scores_[0] + split.begin + group * kGroup;
  }

  const AttentionArgs& args_;
  TiledCache<Vec, Brain> head_;
  bool reads_once_;
  int64_t rows_ = 0;
  int64_t context_ = 0;
  const Brain* values_[kSplitGroups];
  alignas(64) Brain queries_[kRows * kMaxHeadSize];
  alignas(64) float scores_[kRows][simd::kScoreStride];
  alignas(64) Brain weights_[kRows][kSoftmaxSplit];
  alignas(64) float part_[kRows * kMaxHeadSize];
};

}  // namespace

bool has_tiled_attention(const AttentionArgs& args) {
  return args.type == DType::kBF16 && args.head_size % 16 == 0 && args.block_size % kGroup == 0;
}

void write_kv_tiled(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                    int64_t num_rows) {
  simd::write_kv<Vec, Brain, Brain, PairedLayout>(args, sequence, first_row, num_rows);
}

void attend_tiled(const AttentionArgs& args, const AttentionBlock& block) {
  BrainTile tile(args, block);
  for (int64_t i = 0; i < block.num_rows * block.num_heads; i += kRows) {
    attend_tile<Vec, BrainTile, Brain>(args, block, i, tile);
  }
  _tile_release();
}

}  // namespace sluice::kernels::cpu::amx
