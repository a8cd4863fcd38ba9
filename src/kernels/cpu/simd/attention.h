#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/lanes.h"
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

// One KV head of one sequence. (A template over V for the instruction set's sake, see
// kernel_table.h.)
template <typename V, typename T>
struct HeadCache {
  const T* cache;
  const int32_t* table;
  int64_t block_stride;  // elements
  int64_t block_size;
  int64_t head_size;

  HeadCache(const AttentionArgs& args, int64_t sequence, int64_t kv_head)
      : table(args.tables + sequence * args.max_blocks),
        block_stride(args.num_kv_heads * args.block_size * 2 * args.head_size),
        block_size(args.block_size),
        head_size(args.head_size) {
    cache = static_cast<const T*>(args.cache) + kv_head * args.block_size * 2 * args.head_size;
  }
  const T* block(int64_t position) const {
    return cache + int64_t{table[position / block_size]} * block_stride;
  }
  // Keys of the group of up to 16 slots that holds `slot`.
  const T* keys(const T* block, int64_t slot) const { return block + slot / 16 * 16 * head_size; }
  const T* values(int64_t position) const {
    return block(position) + (block_size + position % block_size) * head_size;
  }
  int64_t group_width(int64_t slot) const {
    const int64_t left = block_size - slot / 16 * 16;
    return left < 16 ? left : 16;
  }
};

// Query rows that are attended together: their positions ascend with the row.
struct QueryRows {
  const float* query[kQueryRows];
  int64_t first[kQueryRows];  // attended positions: [first, last)
  int64_t last[kQueryRows];
  float slope[kQueryRows];
  int count;
};

// scores[r][c * 16 ..] = query[r] . keys[c], a chain over D for each position.
template <typename V, typename T, int R, int C>
inline void score_groups(const float* const* query, const T* const* keys, int64_t head_size,
                         float* const* scores) {
  V acc[R][C];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) acc[r][c] = V::zero();
  }
  for (int64_t d = 0; d < head_size; d += 2) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) {
      V even, odd;
      V::load_pair(keys[c] + d * 16, even, odd);
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
      score_groups<V, T, R, kMost>(rows.query, keys, head.head_size, rows_out);
    } else {
      for (int c = 0; c < groups; ++c) {
        score_groups<V, T, R, 1>(rows.query, keys + c, head.head_size, rows_out);
        for (int r = 0; r < R; ++r) rows_out[r] += 16;
      }
    }
  }
}

// mixed[r][d] += sum over positions [first, last) of weight[r] * value[d], C vectors of d.
template <typename V, typename T, int R, int C>
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
    for (; position < stop; ++position) {
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
  for (; d + kMost * 16 <= head.head_size; d += kMost * 16) {
    mix_columns<V, T, R, kMost>(head, weights, split, first, last, d, mixed);
  }
  for (; d + 16 <= head.head_size; d += 16) {
    mix_columns<V, T, R, 1>(head, weights, split, first, last, d, mixed);
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

template <typename V, typename T, int R>
inline void attend_rows(const AttentionArgs& args, const HeadCache<V, T>& head,
                        const QueryRows& rows, T* const* output) {
  alignas(64) float scores[R][kScoreStride];
  alignas(64) float part[R][kMaxHeadSize];
  SoftmaxRow<V> state[R];
  const int64_t padded_size = (head.head_size + 15) / 16 * 16;
  for (int r = 0; r < R; ++r) state[r].clear(padded_size);
  for (int64_t split = rows.first[0] / kSoftmaxSplit * kSoftmaxSplit; split < rows.last[R - 1];
       split += kSoftmaxSplit) {
    int64_t first[R], last[R];
    float largest[R], total[R];
    const float* weights[R];
    float* mixed[R];
    const int64_t end = split + kSoftmaxSplit;
    for (int r = 0; r < R; ++r) {
      first[r] = rows.first[r] > split ? rows.first[r] : split;
      last[r] = rows.last[r] < end ? rows.last[r] : end;
      if (last[r] < first[r]) last[r] = first[r];
      weights[r] = scores[r] + 16;
      mixed[r] = part[r];
      for (int64_t d = 0; d < padded_size; ++d) part[r][d] = 0;
    }
    // Positions ascend with the row: the first row begins first, the last one ends last.
    score_range<V, T, R>(head, rows, split, first[0], last[R - 1], scores);
    for (int r = 0; r < R; ++r) {
      if (first[r] == last[r]) continue;
      total[r] = weigh<V>(scores[r] + 16, split, first[r], last[r], rows.last[r] - 1, args.scale,
                          rows.slope[r], largest[r]);
    }
    mix<V, T, R>(head, weights, split, first, last, mixed);
    for (int r = 0; r < R; ++r) {
      if (first[r] == last[r]) continue;
      state[r].merge(largest[r], total[r], part[r], head.head_size);
    }
  }
  for (int r = 0; r < R; ++r) state[r].store(output[r], head.head_size);
}

template <typename V, typename T>
inline void attend(const AttentionArgs& args, const AttentionBlock& block) {
  const HeadCache<V, T> head(args, block.sequence, block.kv_head);
  const int64_t start = args.starts[block.sequence];
  const int64_t num_rows = args.starts[block.sequence + 1] - start;
  const int64_t sharing = args.num_heads / args.num_kv_heads;
  const int64_t count = block.num_rows * block.num_heads;
  for (int64_t i = 0; i < count; i += kQueryRows) {
    QueryRows rows;
    T* output[kQueryRows];
    rows.count = static_cast<int>(count - i < kQueryRows ? count - i : kQueryRows);
    for (int r = 0; r < rows.count; ++r) {
      // Heads of one row are neighbours, so positions ascend.
      const int64_t row = block.first_row + (i + r) / block.num_heads;
      const int64_t query_head =
          block.kv_head * sharing + block.first_head + (i + r) % block.num_heads;
      const int64_t offset = ((start + row) * args.num_heads + query_head) * args.head_size;
      const int64_t position = args.contexts[block.sequence] - num_rows + row;
      rows.query[r] = static_cast<const float*>(args.queries) + offset;
      rows.last[r] = position + 1;
      rows.first[r] = args.window > 0 && position >= args.window ? position + 1 - args.window : 0;
      rows.slope[r] = args.alibi_slopes == nullptr ? 0.0f : args.alibi_slopes[query_head];
      output[r] = static_cast<T*>(args.output) + offset;
    }
    switch (rows.count) {
      case 1:
        attend_rows<V, T, 1>(args, head, rows, output);
        break;
      case 2:
        attend_rows<V, T, 2>(args, head, rows, output);
        break;
      case 3:
        attend_rows<V, T, 3>(args, head, rows, output);
        break;
      default:
        attend_rows<V, T, 4>(args, head, rows, output);
    }
  }
}

}  // namespace sluice::kernels::cpu::simd
