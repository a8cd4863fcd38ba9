#pragma once

#include "kernels/cpu/kernel_table.h"

// Where a block's query rows and a cache's parts lie. (Static, or templates over the vector type V:
// see kernel_table.h.)
namespace sluice::kernels::cpu::simd {

// Elements of one KV head in one block of a cache of C.
template <typename C>
static inline int64_t head_elements(const AttentionArgs& args) {
  return args.block_size * (2 * args.head_size + (__is_same(C, int8_t) ? kInt8SlotScaleBytes : 0));
}

// An int8 cache's key scales [S] of one head's block; the value scales [S] follow.
static inline const float* scales_of(const int8_t* block, int64_t block_size, int64_t head_size) {
  return reinterpret_cast<const float*>(block + 2 * block_size * head_size);
}
static inline float* scales_of(int8_t* block, int64_t block_size, int64_t head_size) {
  return reinterpret_cast<float*>(block + 2 * block_size * head_size);
}

template <typename V>
static inline void clear(float* p, int64_t padded_size) {
  for (int64_t d = 0; d < padded_size; d += 16) V::zero().store(p + d);
}

// Query vector i of a block's num_rows * num_heads. Heads of one row are neighbours, so positions
// ascend.
template <typename V>
struct QueryRow {
  int64_t offset;  // of its numbers in `queries` and `output`
  int64_t first;   // attended positions: [first, last)
  int64_t last;
  float slope;

  QueryRow(const AttentionArgs& args, const AttentionBlock& block, int64_t i) {
    const int64_t start = args.starts[block.sequence];
    const int64_t rows = args.starts[block.sequence + 1] - start;
    const int64_t row = block.first_row + i / block.num_heads;
    const int64_t head = block.kv_head * (args.num_heads / args.num_kv_heads) + block.first_head +
                         i % block.num_heads;
    const int64_t position = args.contexts[block.sequence] - rows + row;
    offset = ((start + row) * args.num_heads + head) * args.head_size;
    first = args.window > 0 && position >= args.window ? position + 1 - args.window : 0;
    last = position + 1;
    slope = args.alibi_slopes == nullptr ? 0.0f : args.alibi_slopes[head];
  }
};

// Where query vector i of a block leaves what it has of a split.
static inline float* part_of(const AttentionBlock& block, int64_t i, int64_t split,
                             int64_t head_size) {
  return block.parts + (i * block.num_parts + split - block.first_part) * split_floats(head_size);
}

// Splits that a block's rows with positions [first, last) go through.
template <typename V>
struct SplitRange {
  int64_t begin;
  int64_t end;

  SplitRange(const AttentionBlock& block, int64_t first, int64_t last)
      : begin(first / kSoftmaxSplit), end((last + kSoftmaxSplit - 1) / kSoftmaxSplit) {
    if (block.parts == nullptr) return;
    begin = block.first_split;
    end = block.end_split;
  }
};

}  // namespace sluice::kernels::cpu::simd
