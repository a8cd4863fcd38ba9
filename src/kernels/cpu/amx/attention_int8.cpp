#include "kernels/cpu/amx/attention.h"
#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/avx512/fixed_attention.h"
#include "kernels/cpu/avx512/vec.h"

// Attention over an int8 cache on AMX's tile registers.
//
// A query's levels are v = 128 high + low with high and low in int8, a weight's 256 high + low in
// uint8. High and low parts are rows of tiles: both in one tile for up to eight query rows, which
// is as fast as one part alone where the tile would be mostly empty.
namespace sluice::kernels::cpu::amx {
namespace {

using avx512::Vec;
using simd::kGroup, simd::kGroupsAtOnce, simd::kSplitGroups, simd::kTileRows;

constexpr int64_t kScoreBytes = simd::kScoreStride * sizeof(int32_t);

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

// A Product (avx512/fixed_attention.h): rows [0, rows) high and [rows, 2 rows) low in one tile, or
// [0, 16) high and [16, 32) low in two.
class TileParts {
 public:
  static constexpr bool kReadsAhead = false;

  explicit TileParts(int64_t head_size)
      : head_size_(head_size), depth_(depth_of_tiles(head_size)) {}

  void start(int64_t rows) {
    rows_ = rows;
    is_single_ = 2 * rows_ <= kTileRows;
    low_ = is_single_ ? rows_ : kTileRows;
  }

  void set_query(int64_t r, int64_t d, __m512i levels) {
    const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(levels, _mm512_set1_epi32(64)), 7);
    const __m512i low = _mm512_sub_epi32(levels, _mm512_slli_epi32(high, 7));
    avx512::store_low_bytes(high, queries_ + r * head_size_ + d);
    avx512::store_low_bytes(low, queries_ + (low_ + r) * head_size_ + d);
  }

  void set_weights(int64_t r, int64_t position, __m512i levels) {
    avx512::store_low_bytes(_mm512_srli_epi32(levels, 8), weights_[r] + position);
    avx512::store_low_bytes(levels, weights_[low_ + r] + position);
  }

  void start_scores() { configure_tiles(is_single_ ? 2 * rows_ : kTileRows, depth_); }
  int64_t groups_at_once() const { return is_single_ ? kGroupsAtOnce : 2; }

  void score(const int8_t* const* keys, int64_t count, int64_t to, const int8_t* const* /*ahead*/) {
    int32_t* scores = scores_[0] + to;
    if (!is_single_) return score_pair(queries_, keys, head_size_, depth_, scores);
    if (count == kGroupsAtOnce) return score_four(queries_, keys, head_size_, depth_, scores);
    for (int64_t g = 0; g < count; ++g) {
      score_one(queries_, keys[g], head_size_, depth_, scores + g * kGroup);
    }
  }

  __m512i raw(int64_t r, int64_t position) const {
    return avx512::joined(_mm512_loadu_si512(scores_[r] + position),
                          _mm512_loadu_si512(scores_[low_ + r] + position), 7);
  }

  void mix(const int8_t** values, int64_t num_groups, const int8_t** /*ahead*/) {
    is_single_ ? mix_in_one(values, num_groups) : mix_in_two(values, num_groups);
  }

  __m512i mixed(int64_t r, int64_t d) const {
    const int32_t* sum = sums_ + r * head_size_ + d;
    return avx512::joined(_mm512_loadu_si512(sum), _mm512_loadu_si512(sum + low_ * head_size_), 8);
  }

 private:
  // Sixteen positions at a time, straight from the cache.
  void mix_in_one(const int8_t** values, int64_t num_groups) {
    configure_tiles(2 * rows_, kGroup);
    int64_t d = 0;
    const auto advance = [&](int64_t columns) {
      d += columns;
      for (int64_t g = 0; g < num_groups; ++g) values[g] += 4 * columns;
    };
    while (d + 64 <= head_size_) {
      mix_single<kGroupsAtOnce>(weights_[0], values, num_groups, head_size_, sums_ + d);
      advance(64);
    }
    while (d < head_size_) {
      mix_single<1>(weights_[0], values, num_groups, head_size_, sums_ + d);
      advance(16);
    }
  }

  // Sixty-four positions at a time, from four groups brought together: a tile of sixteen rows takes
  // as long with a quarter of the depth. Groups past the split's last meet weights of zero.
  void mix_in_two(const int8_t* const* groups, int64_t num_groups) {
    const int64_t group_bytes = kGroup * head_size_;
    for (int64_t g = 0; g < num_groups; ++g) {
      __builtin_memcpy(staged_ + g * group_bytes, groups[g], group_bytes);
    }
    const int64_t num_tiles = (num_groups + 3) / 4;
    const int8_t* values[kSplitGroups / 4];
    for (int64_t t = 0; t < num_tiles; ++t) values[t] = staged_ + 4 * t * group_bytes;
    configure_tiles(kTileRows, 4 * kGroup);
    int64_t d = 0;
    const auto advance = [&](int64_t columns) {
      d += columns;
      for (int64_t t = 0; t < num_tiles; ++t) values[t] += 4 * columns;
    };
    while (d + 32 <= head_size_) {
      mix_double<2>(weights_[0], values, num_tiles, head_size_, sums_ + d);
      advance(32);
    }
    if (d < head_size_) {
      mix_double<1>(weights_[0], values, num_tiles, head_size_, sums_ + d);
    }
  }

  int64_t head_size_;
  int64_t depth_;
  bool is_single_ = false;
  int64_t rows_ = 0;
  int64_t low_ = 0;  // the row of the first low part
  alignas(64) int8_t queries_[2 * kTileRows * kMaxHeadSize];
  alignas(64) int32_t scores_[2 * kTileRows][simd::kScoreStride];
  alignas(64) uint8_t weights_[2 * kTileRows][kSoftmaxSplit];
  alignas(64) int32_t sums_[2 * kTileRows * kMaxHeadSize];
  alignas(64) int8_t staged_[kSoftmaxSplit * kMaxHeadSize];
};

}  // namespace

void write_int8_kv_tiled(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                         int64_t num_rows) {
  avx512::write_fixed<Vec>(args, sequence, first_row, num_rows);
}

void attend_int8_tiled(const AttentionArgs& args, const AttentionBlock& block) {
  // Exact sums have one result. The tiles of few rows would be mostly empty, and cost what full
  // ones do.
  constexpr int64_t kMaxVectorRows = 4;
  if (block.num_rows * block.num_heads <= kMaxVectorRows) {
    return avx512_kernels().attend(args, block);
  }
  avx512::attend_fixed<Vec, TileParts>(args, block);
  _tile_release();
}

}  // namespace sluice::kernels::cpu::amx
