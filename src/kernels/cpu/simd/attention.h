#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/lanes.h"
#include "kernels/cpu/simd/prefetch.h"
#include "kernels/cpu/simd/query_rows.h"
#include "kernels/cpu/simd/softmax.h"
#include "kernels/cpu/simd/write_kv.h"

// Paged attention over a vector type V.
//
// A query row's softmax runs over splits of 256 positions that start at multiples of 256, and are
// merged in order (Milakov and Gimelshein 2018, 1805.02867). Inside a split a score is one chain
// over D, an output number one chain over positions, and the sum of the weights goes by lane of
// position modulo 16. So a row's bits depend on its own position only.
namespace sluice::kernels::cpu::simd {

// Up to this many query rows share one reading of keys and values.
inline constexpr int kQueryRows = 4;

// One KV head of one sequence; C is the cache's number format. (A template over V for the
// instruction set's sake, see kernel_table.h.)
//
// A sequence with one row in this step reads each key and value once, from blocks that lie
// anywhere, so that the processor cannot guess the next one: values come while their keys are read,
// and the keys of the next split, or KV head, while values are.
template <typename V, typename C>
struct HeadCache {
  // What is read ahead has to stay in a small second-level cache.
  static constexpr int64_t kMostSplitBytes = 65536;

  const C* cache;
  const int32_t* table;
  int64_t block_stride;  // elements
  int64_t block_size;
  int64_t head_size;
  bool reads_ahead;
  int64_t first_split;
  int64_t end;        // no position from here on is read
  int64_t after_end;  // elements from this head to the one that is read after `end`, or 0

  HeadCache(const AttentionArgs& args, const AttentionBlock& block)
      : table(args.tables + block.sequence * args.max_blocks),
        block_size(args.block_size),
        head_size(args.head_size),
        end(args.contexts[block.sequence]) {
    const int64_t elements = head_elements<C>(args);
    block_stride = args.num_kv_heads * elements;
    cache = static_cast<const C*>(args.cache) + block.kv_head * elements;
    const int64_t split_bytes = kSoftmaxSplit * head_size * static_cast<int64_t>(sizeof(C));
    reads_ahead = args.starts[block.sequence + 1] - args.starts[block.sequence] == 1 &&
                  block_size % 16 == 0 && split_bytes <= kMostSplitBytes;
    const SplitRange<V> range(block, QueryRow<V>(args, block, 0).first, end);
    first_split = range.begin * kSoftmaxSplit;
    if (range.end * kSoftmaxSplit < end) end = range.end * kSoftmaxSplit;
    const bool goes_on = block.parts == nullptr && block.num_heads <= kQueryRows &&
                         block.kv_head + 1 < args.num_kv_heads;
    after_end = goes_on ? elements : 0;
  }
  const C* block(int64_t position) const {
    return cache + int64_t{table[position / block_size]} * block_stride;
  }
  // Keys of the group of up to 16 slots that holds `slot`.
  const C* keys(const C* block, int64_t slot) const { return block + slot / 16 * 16 * head_size; }
  const C* values(int64_t position) const {
    return block(position) + (block_size + position % block_size) * head_size;
  }
  // Keys that are read after a position's value, as many as its numbers; the value itself where
  // none are.
  const C* after_value(int64_t position) const {
    const int64_t next = position + kSoftmaxSplit;
    if (next < end) return key_numbers(next);
    const int64_t first = first_split + position % kSoftmaxSplit;
    return after_end > 0 && first < end ? key_numbers(first) + after_end : values(position);
  }
  const C* key_numbers(int64_t position) const {
    return block(position) + position % block_size * head_size;
  }
  int64_t group_width(int64_t slot) const {
    const int64_t left = block_size - slot / 16 * 16;
    return left < 16 ? left : 16;
  }
};

// An int8 cache's scales of the positions of a split, by position from the split's start.
template <typename V>
struct SplitScales {
  alignas(64) float key[kSoftmaxSplit] = {};
  alignas(64) float value[kSoftmaxSplit] = {};
};

template <typename V>
inline void load_scales(const HeadCache<V, int8_t>& head, int64_t split, int64_t first,
                        int64_t last, SplitScales<V>& scales) {
  for (int64_t position = first; position < last;) {
    const int64_t slot = position % head.block_size;
    const float* keys = scales_of(head.block(position), head.block_size, head.head_size);
    const float* values = keys + head.block_size;
    const int64_t next = position + kSoftmaxSplit;
    if (head.reads_ahead && next < head.end) {
      const float* scales = scales_of(head.block(next), head.block_size, head.head_size);
      prefetch(scales, 2 * head.block_size * static_cast<int64_t>(sizeof(float)));
    }
    for (int64_t s = slot; s < head.block_size && position < last; ++s, ++position) {
      scales.key[position - split] = keys[s];
      scales.value[position - split] = values[s];
    }
  }
}

// Query rows that are attended together: their positions ascend with the row.
struct QueryRows {
  const float* query[kQueryRows];
  int64_t first[kQueryRows];  // attended positions: [first, last)
  int64_t last[kQueryRows];
  float slope[kQueryRows];
  int count;
};

// scores[r][c * 16 ..] = query[r] . keys[c], a chain over D for each position. With kAhead, the
// values behind the keys are read ahead.
template <typename V, typename T, int R, int C, bool kAhead>
inline void score_groups(const HeadCache<V, T>& head, const float* const* query,
                         const T* const* keys, float* const* scores) {
  constexpr int64_t kPairBytes = 32 * sizeof(T);
  const int64_t to_values = head.block_size * head.head_size;
  V acc[R][C];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) acc[r][c] = V::zero();
  }
  for (int64_t d = 0; d < head.head_size; d += 2) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) {
      V even, odd;
      V::load_pair(keys[c] + d * 16, even, odd);
      if (kAhead && (kPairBytes >= 64 || d % 4 == 0)) {
        prefetch(keys[c] + d * 16 + to_values, kPairBytes);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        acc[r][c] = V::fma(V::set(query[r][d]), even, acc[r][c]);
        acc[r][c] = V::fma(V::set(query[r][d + 1]), odd, acc[r][c]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) acc[r][c].store(scores[r] + c * 16);
  }
}

// Raw scores of the positions [first, last) of a split that starts at `split`. A group of keys is
// always computed whole; lanes outside the range hold anything, and are masked by the caller.
template <typename V, typename T, int R>
inline void score_range(const HeadCache<V, T>& head, const QueryRows& rows, int64_t split,
                        int64_t first, int64_t last, float (*scores)[kScoreStride]) {
  constexpr int kMost = V::kAccumulators / R < 4 ? V::kAccumulators / R : 4;
  alignas(64) T padded[16 * kMaxHeadSize];
  float* rows_out[R];
  int64_t position = first - (first % head.block_size) % 16;
  while (position < last) {
    const T* keys[kMost];
    int groups = 0;
    const int64_t begin = position;
    for (int r = 0; r < R; ++r) rows_out[r] = scores[r] + 16 + (begin - split);
    while (groups < kMost && position < last) {
      const int64_t slot = position % head.block_size;
      const int64_t width = head.group_width(slot);
      const T* group = head.keys(head.block(position), slot);
      if (width < 16) {
        if (groups > 0) break;
        for (int64_t d = 0; d < head.head_size; ++d) {
          for (int64_t lane = 0; lane < 16; ++lane) {
            const int64_t source = lane < width ? lane : width - 1;
            padded[key_offset<T>(d, lane, 16)] = group[key_offset<T>(d, source, width)];
          }
        }
        group = padded;
      }
      keys[groups++] = group;
      position += width;
      if (width < 16) break;
    }
    if (groups == kMost) {
      const auto score = head.reads_ahead ? score_groups<V, T, R, kMost, true>
                                          : score_groups<V, T, R, kMost, false>;
      score(head, rows.query, keys, rows_out);
    } else {
      for (int c = 0; c < groups; ++c) {
        score_groups<V, T, R, 1, false>(head, rows.query, keys + c, rows_out);
        for (int r = 0; r < R; ++r) rows_out[r] += 16;
      }
    }
  }
}

// mixed[r][d] += sum over positions [first, last) of weight[r] * value[d], C vectors of d. With
// kAhead, the keys after them are read ahead.
template <typename V, typename T, int R, int C, bool kAhead>
inline void mix_columns(const HeadCache<V, T>& head, const float* const* weights, int64_t split,
                        int64_t first, int64_t last, int64_t d, float* const* mixed) {
  V acc[R][C];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) acc[r][c] = V::load(mixed[r] + d + c * 16);
  }
  for (int64_t position = first; position < last;) {
    const int64_t left = head.block_size - position % head.block_size;
    const int64_t stop = last - position < left ? last : position + left;
    const T* value = head.values(position) + d;
    const T* ahead = kAhead ? head.after_value(position) + d : nullptr;
    for (; position < stop; ++position) {
      if constexpr (kAhead) {
        prefetch(ahead, C * 16 * static_cast<int64_t>(sizeof(T)));
        ahead += head.head_size;
      }
      V lanes[C];
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) lanes[c] = V::load(value + c * 16);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const V weight = V::set(weights[r][position - split]);
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) acc[r][c] = V::fma(weight, lanes[c], acc[r][c]);
      }
      value += head.head_size;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) acc[r][c].store(mixed[r] + d + c * 16);
  }
}

// The last D % 16 columns of one row.
template <typename V, typename T>
inline void mix_tail(const HeadCache<V, T>& head, const float* weights, int64_t split,
                     int64_t first, int64_t last, int64_t d, float* mixed) {
  const int lanes = static_cast<int>(head.head_size - d);
  V acc = V::load(mixed + d);
  for (int64_t position = first; position < last; ++position) {
    const V value = V::load(head.values(position) + d, lanes);
    acc = V::fma(V::set(weights[position - split]), value, acc);
  }
  acc.store(mixed + d);
}

template <typename V, typename T, int R>
inline void mix_rows(const HeadCache<V, T>& head, const float* const* weights, int64_t split,
                     int64_t first, int64_t last, float* const* mixed) {
  if (first >= last) return;
  constexpr int kMost = V::kAccumulators / R < 4 ? V::kAccumulators / R : 4;
  int64_t d = 0;
  const auto mix_most =
      head.reads_ahead ? mix_columns<V, T, R, kMost, true> : mix_columns<V, T, R, kMost, false>;
  for (; d + kMost * 16 <= head.head_size; d += kMost * 16) {
    mix_most(head, weights, split, first, last, d, mixed);
  }
  const auto mix_one =
      head.reads_ahead ? mix_columns<V, T, R, 1, true> : mix_columns<V, T, R, 1, false>;
  for (; d + 16 <= head.head_size; d += 16) {
    mix_one(head, weights, split, first, last, d, mixed);
  }
  if (d == head.head_size) return;
  for (int r = 0; r < R; ++r) {
    mix_tail<V, T>(head, weights[r], split, first, last, d, mixed[r]);
  }
}

// A row reads values of its own positions only: what lies past them may be of a later row, or
// anything. Positions that all rows share are read once.
template <typename V, typename T, int R>
inline void mix(const HeadCache<V, T>& head, const float* const* weights, int64_t split,
                const int64_t* first, const int64_t* last, float* const* mixed) {
  int64_t shared_first = first[0];
  int64_t shared_last = last[0];
  for (int r = 1; r < R; ++r) {
    shared_first = first[r] > shared_first ? first[r] : shared_first;
    shared_last = last[r] < shared_last ? last[r] : shared_last;
  }
  const bool shares = shared_first < shared_last;
  for (int r = 0; r < R; ++r) {
    mix_rows<V, T, 1>(head, weights + r, split, first[r], shares ? shared_first : last[r],
                      mixed + r);
  }
  if (!shares) return;
  mix_rows<V, T, R>(head, weights, split, shared_first, shared_last, mixed);
  for (int r = 0; r < R; ++r) {
    mix_rows<V, T, 1>(head, weights + r, split, shared_last, last[r], mixed + r);
  }
}

// One split of the softmax for R rows: their positions, weights and weighted values.
template <typename V, typename C, int R>
struct SplitRows {
  alignas(64) float scores[R][kScoreStride];
  SplitScales<V> scales;  // int8 only
  int64_t first[R];
  int64_t last[R];
  float largest[R];
  float total[R];

  // Raw scores to weights of row r; an int8 cache's value scales go into the weights.
  void weigh_row(const AttentionArgs& args, const QueryRows& rows, int64_t split, int r) {
    SplitRow row;
    row.first = static_cast<int>(first[r] - split);
    row.last = static_cast<int>(last[r] - split);
    row.query = static_cast<float>(rows.last[r] - 1 - split);
    row.scale = args.scale * kLog2E;
    row.slope = rows.slope[r] * kLog2E;
    float* weights = scores[r] + 16;
    constexpr bool kScaled = __is_same(C, int8_t);
    const auto raw = [&](int position) {
      const V score = V::load(weights + position);
      if constexpr (kScaled) return score * V::load(scales.key + position);
      return score;
    };
    const auto put = [&](V weight, int position) {
      if constexpr (kScaled) weight = weight * V::load(scales.value + position);
      weight.store(weights + position);
    };
    total[r] = weigh<V>(row, raw, weights, put, largest[r]);
  }
};

static inline int64_t within(int64_t position, int64_t first, int64_t last) {
  return position < first ? first : position < last ? position : last;
}

template <typename V, typename C, typename T, int R>
inline void attend_rows(const AttentionArgs& args, const AttentionBlock& block,
                        const HeadCache<V, C>& head, const QueryRows& rows, T* const* output) {
  SplitRows<V, C, R> part;
  alignas(64) float sums[R][kMaxHeadSize];
  alignas(64) float mixed[R][kMaxHeadSize];
  SoftmaxRow<V> state[R];
  const int64_t padded_size = (head.head_size + 15) / 16 * 16;
  for (int r = 0; r < R; ++r) clear<V>(mixed[r], padded_size);
  const SplitRange<V> range(block, rows.first[0], rows.last[R - 1]);
  for (int64_t index = range.begin; index < range.end; ++index) {
    const int64_t split = index * kSoftmaxSplit;
    const int64_t end = split + kSoftmaxSplit;
    const float* weights[R];
    float* sum[R];
    for (int r = 0; r < R; ++r) {
      part.first[r] = within(rows.first[r], split, end);
      part.last[r] = within(rows.last[r], split, end);
      weights[r] = part.scores[r] + 16;
      sum[r] = sums[r];
      clear<V>(sums[r], padded_size);
    }
    // Positions ascend with the row: the first row begins first, the last one ends last.
    if constexpr (__is_same(C, int8_t)) {
      load_scales(head, split, part.first[0], part.last[R - 1], part.scales);
    }
    score_range<V, C, R>(head, rows, split, part.first[0], part.last[R - 1], part.scores);
    for (int r = 0; r < R; ++r) {
      if (part.first[r] < part.last[r]) part.weigh_row(args, rows, split, r);
    }
    mix<V, C, R>(head, weights, split, part.first, part.last, sum);
    for (int r = 0; r < R; ++r) {
      if (part.first[r] == part.last[r]) continue;
      if (block.parts != nullptr) {
        keep_part<V>(part.largest[r], part.total[r], sums[r], head.head_size,
                     part_of(block, r, index, head.head_size));
      } else {
        state[r].merge(part.largest[r], part.total[r], sums[r], mixed[r], head.head_size);
      }
    }
  }
  if (block.parts != nullptr) return;
  for (int r = 0; r < R; ++r) state[r].store(mixed[r], output[r], head.head_size);
}

template <typename V, typename C, typename T>
inline void attend(const AttentionArgs& args, const AttentionBlock& block) {
  const HeadCache<V, C> head(args, block);
  const int64_t count = block.num_rows * block.num_heads;
  for (int64_t i = 0; i < count; i += kQueryRows) {
    QueryRows rows;
    T* output[kQueryRows];
    rows.count = static_cast<int>(count - i < kQueryRows ? count - i : kQueryRows);
    for (int r = 0; r < rows.count; ++r) {
      const QueryRow<V> row(args, block, i + r);
      rows.query[r] = static_cast<const float*>(args.queries) + row.offset;
      rows.last[r] = row.last;
      rows.first[r] = row.first;
      rows.slope[r] = row.slope;
      output[r] = static_cast<T*>(args.output) + row.offset;
    }
    AttentionBlock own = block;
    if (own.parts != nullptr) own.parts = part_of(block, i, block.first_part, args.head_size);
    switch (rows.count) {
      case 1:
        attend_rows<V, C, T, 1>(args, own, head, rows, output);
        break;
      case 2:
        attend_rows<V, C, T, 2>(args, own, head, rows, output);
        break;
      case 3:
        attend_rows<V, C, T, 3>(args, own, head, rows, output);
        break;
      default:
        attend_rows<V, C, T, 4>(args, own, head, rows, output);
    }
  }
}

// KernelTable::merge_splits.
template <typename V, typename T>
inline void merge_splits(const AttentionArgs& args, const AttentionBlock& block) {
  const QueryRow<V> row(args, block, 0);
  alignas(64) float mixed[kMaxHeadSize];
  clear<V>(mixed, (args.head_size + 15) / 16 * 16);
  SoftmaxRow<V> state;
  for (int64_t i = 0; i < block.num_parts; ++i) {
    const float* part = part_of(block, 0, block.first_part + i, args.head_size);
    state.merge(part[0], part[1], part + 16, mixed, args.head_size);
  }
  state.store(mixed, static_cast<T*>(args.output) + row.offset, args.head_size);
}

}  // namespace sluice::kernels::cpu::simd
