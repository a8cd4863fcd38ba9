#pragma once

#include "kernels/cpu/simd/prefetch.h"
#include "kernels/cpu/simd/query_rows.h"
#include "kernels/cpu/simd/softmax.h"

// Attention of up to sixteen query rows at a time: what the formats of the cache and the ways to
// multiply share.
namespace sluice::kernels::cpu::simd {

inline constexpr int64_t kTileRows = 16;     // query rows of a tile
inline constexpr int64_t kGroup = 16;        // positions of a tile
inline constexpr int64_t kGroupsAtOnce = 4;  // tiles of sums
inline constexpr int64_t kSplitGroups = kSoftmaxSplit / kGroup;

// Whether D and S are whole groups, so that pairs (int8: fours) of positions and of numbers are
// side by side.
static inline bool is_paired(const AttentionArgs& args) {
  return args.type == DType::kBF16 && args.head_size % 16 == 0 && args.block_size % kGroup == 0;
}

// Up to sixteen query rows of one KV head, their positions ascending.
template <typename V>
struct QueryTile {
  int64_t rows;
  int64_t first[kTileRows];  // attended positions: [first, last)
  int64_t last[kTileRows];
  int64_t offset[kTileRows];  // in `queries` and `output`
  float slope[kTileRows];

  QueryTile(const AttentionArgs& args, const AttentionBlock& block, int64_t begin) {
    const int64_t left = block.num_rows * block.num_heads - begin;
    rows = left < kTileRows ? left : kTileRows;
    for (int64_t r = 0; r < rows; ++r) {
      const QueryRow<V> row(args, block, begin + r);
      first[r] = row.first;
      last[r] = row.last;
      offset[r] = row.offset;
      slope[r] = row.slope;
    }
  }
};

// The groups of one split that any row of a tile attends to, and each row's share of them.
// Positions count from the split's start.
template <typename V>
struct TileSplit {
  int64_t split;
  int begin;  // a multiple of 16
  int end;
  int64_t num_groups;

  TileSplit(const QueryTile<V>& tile, int64_t split_start) : split(split_start) {
    // Positions ascend with the row: the first row begins first, the last one ends last.
    const int64_t first = tile.first[0] - split;
    const int64_t last = tile.last[tile.rows - 1] - split;
    begin = first > 0 ? static_cast<int>(first / kGroup * kGroup) : 0;
    end = static_cast<int>(last < kSoftmaxSplit ? last : kSoftmaxSplit);
    num_groups = (end - begin + kGroup - 1) / kGroup;
  }

  SplitRow row(const AttentionArgs& args, const QueryTile<V>& tile, int64_t r) const {
    const int64_t first = tile.first[r] - split;
    const int64_t last = tile.last[r] - split;
    SplitRow row;
    row.first = static_cast<int>(first > 0 ? first : 0);
    row.last = static_cast<int>(last < kSoftmaxSplit ? last : kSoftmaxSplit);
    row.query = static_cast<float>(last - 1);
    row.scale = args.scale * kLog2E;
    row.slope = tile.slope[r] * kLog2E;
    return row;
  }
};

// One KV head of one sequence in a cache of C.
template <typename V, typename C>
struct TiledCache {
  const C* cache;  // of this KV head in block 0
  const int32_t* table;
  int64_t block_stride;
  int64_t block_size;
  int64_t head_size;

  TiledCache(const AttentionArgs& args, const AttentionBlock& block)
      : cache(static_cast<const C*>(args.cache) + block.kv_head * head_elements<C>(args)),
        table(args.tables + block.sequence * args.max_blocks),
        block_stride(args.num_kv_heads * head_elements<C>(args)),
        block_size(args.block_size),
        head_size(args.head_size) {}

  const C* block(int64_t position) const {
    return cache + table[position / block_size] * block_stride;
  }
  const C* keys(int64_t position) const {
    return block(position) + position % block_size * head_size;
  }
  const C* values(int64_t position) const {
    return block(position) + (block_size + position % block_size) * head_size;
  }
};

// Reads ahead the beginnings of the first groups of keys of a split. The processor reads on from
// there by itself, and with more in flight than prefetches could keep: 12.5 GB/s a thread instead
// of 10.5 where blocks of 4 KiB lie anywhere.
inline constexpr int64_t kAhead = 6;  // groups
inline constexpr int64_t kBeginningBytes = 256;

template <typename C>
static inline void prefetch_starts(const C* const* groups, int64_t first, int64_t num_groups) {
  for (int64_t g = first; g < first + kGroupsAtOnce && g < num_groups; ++g) {
    prefetch(groups[g], kBeginningBytes);
  }
}

template <typename V, typename C>
inline void prefetch_first(const TiledCache<V, C>& head, int64_t position, int64_t context) {
  const int64_t end = position + kAhead * kGroup;
  for (; position < end && position < context; position += kGroup) {
    prefetch(head.keys(position), kBeginningBytes);
  }
}

// Where the groups lie that are read after a split's: of the next split, of the next KV head, or of
// the next sequence, since a thread takes its tasks in this order. For products that prefetch
// these, a line for each that they read: blocks lie anywhere, so that the processor cannot guess
// them, and memory that is asked for many lines at once keeps the loads behind them waiting.
template <typename V, typename C>
class NextGroups {
 public:
  NextGroups(const AttentionArgs& args, const AttentionBlock& block) : args_(args), block_(block) {}

  // Groups of this split lie at `keys`; `first_split` and `context` are where the tile's rows
  // begin and end. What the split has no groups for is read ahead at once, and an int8 cache's
  // scales.
  void find(const TileSplit<V>& split, const C* const* keys, int64_t first_split, int64_t context) {
    AttentionBlock block = block_;
    int64_t position = split.split + kSoftmaxSplit;
    if (position >= context && block.kv_head + 1 < args_.num_kv_heads) {
      ++block.kv_head;
      position = first_split;
    } else if (position >= context && block.sequence + 1 < args_.num_sequences) {
      block.kv_head = 0;
      context = args_.contexts[++block.sequence];
      position = args_.window > 0 && context > args_.window ? context - args_.window : 0;
      position -= position % kSoftmaxSplit;
    }
    const TiledCache<V, C> head(args_, block);
    const int64_t group_bytes = kGroup * args_.head_size * static_cast<int64_t>(sizeof(C));
    for (int64_t g = 0; g < kSplitGroups; ++g, position += kGroup) {
      if (position >= context) {
        keys_[g] = keys[g < split.num_groups ? g : 0];  // near anyway
      } else {
        keys_[g] = head.keys(position);
        if constexpr (__is_same(C, int8_t)) prefetch_scales(head, position);
      }
      values_[g] = keys_[g] + args_.block_size * args_.head_size;
      if (position >= context || g < split.num_groups) continue;
      prefetch(keys_[g], group_bytes);
      prefetch(values_[g], group_bytes);
    }
  }

  const C* const* keys() const { return keys_; }
  // A product may move them on as it goes through the columns.
  const C** values() { return values_; }

 private:
  void prefetch_scales(const TiledCache<V, C>& head, int64_t position) const {
    const float* scales = scales_of(head.block(position), args_.block_size, args_.head_size) +
                          position % args_.block_size;
    prefetch_far_line(scales);
    prefetch_far_line(scales + args_.block_size);
  }

  const AttentionArgs& args_;
  const AttentionBlock& block_;
  const C* keys_[kSplitGroups];
  const C* values_[kSplitGroups];
};

// What a tile reads of its KV head: where a split's groups lie, and those that are read ahead, by a
// Product that kReadsAhead or before it.
template <typename V, typename C, typename Product>
class TileReader {
 public:
  TileReader(const AttentionArgs& args, const AttentionBlock& block)
      : head_(args, block),
        next_(args, block),
        reads_once_(args.starts[block.sequence + 1] - args.starts[block.sequence] == 1) {}

  void start(const QueryTile<V>& tile) {
    first_split_ = tile.first[0] / kSoftmaxSplit * kSoftmaxSplit;
    context_ = tile.last[tile.rows - 1];
  }

  // keys, values: of the split's groups.
  void find(const TileSplit<V>& split, const C** keys, const C** values) {
    for (int64_t g = 0; g < split.num_groups; ++g) {
      keys[g] = head_.keys(split.split + split.begin + g * kGroup);
      values[g] = keys[g] + head_.block_size * head_.head_size;
    }
    if (reads_ahead()) next_.find(split, keys, first_split_, context_);
  }

  // What a Product prefetches, or nullptr.
  const C* const* next_keys(int64_t group) const {
    return reads_ahead() ? next_.keys() + group : nullptr;
  }
  const C** next_values() { return reads_ahead() ? next_.values() : nullptr; }

  // Whether the tile prefetches, as the Product does not.
  bool prefetches() const { return reads_once_ && !Product::kReadsAhead; }
  void prefetch_split_after(const TileSplit<V>& split) const {
    if (prefetches()) prefetch_first(head_, split.split + kSoftmaxSplit, context_);
  }

  const TiledCache<V, C>& head() const { return head_; }

 private:
  bool reads_ahead() const { return reads_once_ && Product::kReadsAhead; }

  TiledCache<V, C> head_;
  NextGroups<V, C> next_;
  bool reads_once_;
  int64_t first_split_ = 0;
  int64_t context_ = 0;
};

// Runs a format's steps over all splits of a tile, and merges or keeps what they give.
//   Format: score(split), weigh(split, r, largest, total), mix(split) into part(r) [D]
template <typename V, typename Format, typename T>
inline void attend_tile(const AttentionArgs& args, const AttentionBlock& block, int64_t begin,
                        Format& format) {
  alignas(64) float mixed[kTileRows * kMaxHeadSize];
  SoftmaxRow<V> state[kTileRows];
  const QueryTile<V> tile(args, block, begin);
  const int64_t size = args.head_size;
  clear<V>(mixed, tile.rows * size);
  format.start(tile);
  const SplitRange<V> range(block, tile.first[0], tile.last[tile.rows - 1]);
  for (int64_t index = range.begin; index < range.end; ++index) {
    const TileSplit<V> split(tile, index * kSoftmaxSplit);
    float largest[kTileRows], total[kTileRows];
    bool attends[kTileRows];
    format.score(split);
    for (int64_t r = 0; r < tile.rows; ++r) {
      const SplitRow row = split.row(args, tile, r);
      attends[r] = row.first < row.last;
      format.weigh(split, row, attends[r], r, largest[r], total[r]);
    }
    format.mix(split);
    for (int64_t r = 0; r < tile.rows; ++r) {
      if (!attends[r]) continue;
      if (block.parts != nullptr) {
        keep_part<V>(largest[r], total[r], format.part(r), size,
                     part_of(block, begin + r, index, size));
      } else {
        state[r].merge(largest[r], total[r], format.part(r), mixed + r * size, size);
      }
    }
  }
  if (block.parts != nullptr) return;
  for (int64_t r = 0; r < tile.rows; ++r) {
    state[r].store(mixed + r * size, static_cast<T*>(args.output) + tile.offset[r], size);
  }
}

}  // namespace sluice::kernels::cpu::simd
