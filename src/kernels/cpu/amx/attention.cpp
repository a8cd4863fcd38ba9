#include "kernels/cpu/amx/attention.h"

#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/simd/softmax.h"
#include "kernels/cpu/simd/write_kv.h"

// bfloat16 attention on AMX's tile registers: sixteen query rows against sixteen positions at a
// time. Queries and softmax weights are rounded to bfloat16, all sums are float32.
//
// A score is a chain of TDPBF16PS over D, 32 numbers at a time; an output number is a chain over
// positions, in groups of 16 that start at multiples of 16. A group that a row does not attend to
// adds zeros, and changes no bit: so a row may share tiles with any other.
namespace sluice::kernels::cpu::amx {
namespace {

using avx512::Vec;

constexpr int64_t kRows = 16;         // query rows of a tile
constexpr int64_t kGroup = 16;        // positions of a tile
constexpr int64_t kGroupsAtOnce = 4;  // tiles of sums
constexpr int64_t kScoreBytes = simd::kScoreStride * sizeof(float);

// Values of two positions side by side, as TDPBF16PS takes them. The rest of a group is cleared
// with its first position: what an earlier user left there, perhaps NaN, meets a weight of zero.
struct PairedValues {
  using Query = Brain;

  static void write(Brain* values, int64_t slot, const Brain* value, int64_t head_size) {
    if (slot % kGroup == 0) {
      __builtin_memset(values + slot * head_size, 0, kGroup * head_size * sizeof(Brain));
    }
    Brain* pair = values + slot / 2 * 2 * head_size + slot % 2;
    for (int64_t d = 0; d < head_size; ++d) pair[d * 2] = value[d];
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

// Up to sixteen query rows of one KV head, their positions ascending.
struct Tile {
  alignas(64) Brain queries[kRows][kMaxHeadSize];
  alignas(64) float scores[kRows][simd::kScoreStride];
  alignas(64) Brain weights[kRows][kSoftmaxSplit];
  alignas(64) float part[kRows][kMaxHeadSize];
  simd::SoftmaxRow<Vec> state[kRows];
  int64_t first[kRows];  // attended positions: [first, last)
  int64_t last[kRows];
  float slope[kRows];
  Brain* output[kRows];
  int64_t rows;
};

struct Head {
  const Brain* cache;  // of this KV head in block 0
  const int32_t* table;
  int64_t block_stride;
  int64_t block_size;
  int64_t head_size;

  const Brain* keys(int64_t position) const {
    return block(position) + position % block_size * head_size;
  }
  const Brain* values(int64_t position) const {
    return block(position) + (block_size + position % block_size) * head_size;
  }

 private:
  const Brain* block(int64_t position) const {
    return cache + table[position / block_size] * block_stride;
  }
};

// scores[row][c * 16 ..] = query[row] . keys[c] for kCount groups of positions.
template <int kCount>
void score_groups(const Brain* queries, const Brain* const* keys, int64_t head_size,
                  float* scores) {
  constexpr int64_t kQueryBytes = kMaxHeadSize * sizeof(Brain);
  memory_fence();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  int64_t d = 0;
  for (; d + 32 <= head_size; d += 32) {
    _tile_loadd(4, queries + d, kQueryBytes);
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
    _tile_loadd(6, queries + d, kQueryBytes);
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
  constexpr int64_t kPartBytes = kMaxHeadSize * sizeof(float);
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
  _tile_stored(0, part, kPartBytes);
  if constexpr (kCount == kGroupsAtOnce) {
    _tile_stored(1, part + 16, kPartBytes);
    _tile_stored(2, part + 32, kPartBytes);
    _tile_stored(3, part + 48, kPartBytes);
  }
  memory_fence();
}

// One split of the softmax for a tile's rows: groups of positions from `begin` to `end`.
class Split {
 public:
  Split(const Head& head, Tile& tile, int64_t split)
      : head_(head), tile_(tile), split_(split), end_(tile.last[tile.rows - 1]) {
    // Positions ascend with the row: the first row begins first, the last one ends last.
    begin_ = tile.first[0] > split ? tile.first[0] / kGroup * kGroup : split;
    end_ = end_ < split + kSoftmaxSplit ? end_ : split + kSoftmaxSplit;
    num_groups_ = (end_ - begin_ + kGroup - 1) / kGroup;
  }

  void score() {
    const Brain* keys[kSoftmaxSplit / kGroup];
    for (int64_t g = 0; g < num_groups_; ++g) keys[g] = head_.keys(begin_ + g * kGroup);
    float* scores = tile_.scores[0] + 16 + (begin_ - split_);
    int64_t g = 0;
    for (; g + kGroupsAtOnce <= num_groups_; g += kGroupsAtOnce) {
      score_groups<kGroupsAtOnce>(tile_.queries[0], keys + g, head_.head_size, scores + g * kGroup);
    }
    for (; g < num_groups_; ++g) {
      score_groups<1>(tile_.queries[0], keys + g, head_.head_size, scores + g * kGroup);
    }
  }

  void weigh(float scale, int64_t row) {
    const int64_t first = tile_.first[row] > split_ ? tile_.first[row] : split_;
    const int64_t last = tile_.last[row] < end_ ? tile_.last[row] : end_;
    attends_[row] = first < last;
    float* scores = tile_.scores[row] + 16;
    if (attends_[row]) {
      total_[row] = simd::weigh<Vec>(scores, split_, first, last, tile_.last[row] - 1, scale,
                                     tile_.slope[row], largest_[row]);
    }
    for (int64_t g = 0; g < num_groups_; ++g) {
      const int64_t position = begin_ + g * kGroup;
      const bool is_own = attends_[row] && position + kGroup > first && position < last;
      const Vec weight = is_own ? Vec::load(scores + (position - split_)) : Vec::zero();
      weight.store(tile_.weights[row] + g * kGroup);
    }
  }

  void mix() {
    const Brain* values[kSoftmaxSplit / kGroup];
    for (int64_t g = 0; g < num_groups_; ++g) values[g] = head_.values(begin_ + g * kGroup);
    int64_t d = 0;
    const auto advance = [&](int64_t columns) {
      d += columns;
      for (int64_t g = 0; g < num_groups_; ++g) values[g] += 2 * columns;
    };
    while (d + 64 <= head_.head_size) {
      mix_columns<kGroupsAtOnce>(tile_.weights[0], values, num_groups_, head_.head_size,
                                 tile_.part[0] + d);
      advance(64);
    }
    while (d < head_.head_size) {
      mix_columns<1>(tile_.weights[0], values, num_groups_, head_.head_size, tile_.part[0] + d);
      advance(16);
    }
    for (int64_t row = 0; row < tile_.rows; ++row) {
      if (!attends_[row]) continue;
      tile_.state[row].merge(largest_[row], total_[row], tile_.part[row], head_.head_size);
    }
  }

 private:
  const Head& head_;
  Tile& tile_;
  int64_t split_;
  int64_t begin_;
  int64_t end_;
  int64_t num_groups_;
  bool attends_[kRows];
  float largest_[kRows];
  float total_[kRows];
};

void attend_tile(const AttentionArgs& args, const Head& head, Tile& tile) {
  configure(tile.rows);
  for (int64_t row = 0; row < tile.rows; ++row) tile.state[row].clear(head.head_size);
  for (int64_t split = tile.first[0] / kSoftmaxSplit * kSoftmaxSplit;
       split < tile.last[tile.rows - 1]; split += kSoftmaxSplit) {
    Split part(head, tile, split);
    part.score();
    for (int64_t row = 0; row < tile.rows; ++row) part.weigh(args.scale, row);
    part.mix();
  }
  for (int64_t row = 0; row < tile.rows; ++row) {
    tile.state[row].store(tile.output[row], head.head_size);
  }
}

}  // namespace

bool has_tiled_attention(const AttentionArgs& args) {
  return args.type == DType::kBF16 && args.head_size % 16 == 0 && args.block_size % kGroup == 0;
}

void write_kv_tiled(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                    int64_t num_rows) {
  simd::write_kv<Vec, Brain, PairedValues>(args, sequence, first_row, num_rows);
}

void attend_tiled(const AttentionArgs& args, const AttentionBlock& block) {
  const int64_t slot_elements = args.block_size * 2 * args.head_size;
  const Head head{static_cast<const Brain*>(args.cache) + block.kv_head * slot_elements,
                  args.tables + block.sequence * args.max_blocks, args.num_kv_heads * slot_elements,
                  args.block_size, args.head_size};
  const int64_t start = args.starts[block.sequence];
  const int64_t before = args.contexts[block.sequence] - (args.starts[block.sequence + 1] - start);
  const int64_t first_head =
      block.kv_head * (args.num_heads / args.num_kv_heads) + block.first_head;
  const int64_t count = block.num_rows * block.num_heads;
  Tile tile;
  for (int64_t i = 0; i < count; i += kRows) {
    tile.rows = count - i < kRows ? count - i : kRows;
    for (int64_t r = 0; r < tile.rows; ++r) {
      // Heads of one row are neighbours, so positions ascend.
      const int64_t row = block.first_row + (i + r) / block.num_heads;
      const int64_t query_head = first_head + (i + r) % block.num_heads;
      const int64_t offset = ((start + row) * args.num_heads + query_head) * args.head_size;
      const int64_t position = before + row;
      __builtin_memcpy(tile.queries[r], static_cast<const Brain*>(args.queries) + offset,
                       args.head_size * sizeof(Brain));
      tile.last[r] = position + 1;
      tile.first[r] = args.window > 0 && position >= args.window ? position + 1 - args.window : 0;
      tile.slope[r] = args.alibi_slopes == nullptr ? 0.0f : args.alibi_slopes[query_head];
      tile.output[r] = static_cast<Brain*>(args.output) + offset;
    }
    attend_tile(args, head, tile);
  }
  _tile_release();
}

}  // namespace sluice::kernels::cpu::amx
