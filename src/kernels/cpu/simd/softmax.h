#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/lanes.h"

// A query row's softmax over splits of its context, see attention.h. Scores are in units of ln 2,
// so that e^x is 2^score.
namespace sluice::kernels::cpu::simd {

// Scores may be written up to a group before and after a split.
inline constexpr int kScoreStride = kSoftmaxSplit + 32;
inline constexpr float kLog2E = 1.44269504088896341f;

// A row's part of a split. Positions count from the split's start.
struct SplitRow {
  int first;  // attended positions: [first, last)
  int last;
  float query;  // the row's own position, from the split's start
  float scale;  // times log2(e)
  float slope;  // the same
};

// Weights 2^(score - largest) of the row's positions, sixteen at a time: put(weight, position) for
// groups that start at a multiple of 16. Lanes outside the row's positions get 0. Returns the sum
// of the weights.
//   raw(position): sixteen raw scores; what it returns outside the row's positions may be anything
//   scores: room for the split's, by position; may be where the raw ones are
template <typename V, typename Raw, typename Put>
inline float weigh(const SplitRow& row, Raw raw, float* scores, Put put, float& largest) {
  const V nothing = V::set(-__builtin_inff());
  const V scale = V::set(row.scale);
  const V slope = V::set(row.slope);
  const V step = V::set(16.0f);
  const int begin = row.first - row.first % 16;
  V distance = V::iota() + V::set(static_cast<float>(begin) - row.query);
  V most = nothing;
  for (int position = begin; position < row.last; position += 16) {
    V score = V::fma(slope, distance, raw(position) * scale);
    if (position < row.first || position + 16 > row.last) {
      score = V::keep(score, row.first - position, row.last - position, nothing);
    }
    score.store(scores + position);
    most = V::max(score, most);
    distance = distance + step;
  }
  largest = V::largest(most);
  const V bound = V::set(largest);
  V total = V::zero();
  for (int position = begin; position < row.last; position += 16) {
    const V weight = V::exp2(V::load(scores + position) - bound);
    put(weight, position);
    total = total + weight;
  }
  return V::sum(total);
}

// The running softmax of a row: sum of 2^(score - largest) value, and of the weights alone. `mixed`
// has room for D, rounded up to 16.
template <typename V>
struct SoftmaxRow {
  float largest = -__builtin_inff();
  float total = 0;

  // Adds a split's result.
  void merge(float split_largest, float split_total, const float* split_mixed, float* mixed,
             int64_t head_size) {
    const V both = V::max(V::set(largest), V::set(split_largest));
    const V before = V::exp2(V::set(largest) - both);
    const V now = V::exp2(V::set(split_largest) - both);
    alignas(64) float lanes[16];
    V::fma(V::set(split_total), now, V::set(total) * before).store(lanes);
    total = lanes[0];
    both.store(lanes);
    largest = lanes[0];
    for (int64_t d = 0; d < head_size; d += 16) {
      float* sum = mixed + d;
      V::fma(V::load(split_mixed + d), now, V::load(sum) * before).store(sum);
    }
  }

  template <typename T>
  void store(const float* mixed, T* output, int64_t head_size) const {
    for (int64_t d = 0; d < head_size; d += 16) {
      const int64_t left = head_size - d;
      store_lanes(V::load(mixed + d) / V::set(total), output + d,
                  static_cast<int>(left < 16 ? left : 16));
    }
  }
};

// Leaves a split's result where `merge_splits` looks for it.
template <typename V>
inline void keep_part(float largest, float total, const float* mixed, int64_t head_size,
                      float* part) {
  part[0] = largest;
  part[1] = total;
  for (int64_t d = 0; d < head_size; ++d) part[16 + d] = mixed[d];
}

}  // namespace sluice::kernels::cpu::simd
