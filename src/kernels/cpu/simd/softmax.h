#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/lanes.h"
#include "kernels/cpu/simd/math.h"

// A query row's softmax over splits of its context, see attention.h.
namespace sluice::kernels::cpu::simd {

// Scores may be written up to a group before and after a split.
inline constexpr int kScoreStride = kSoftmaxSplit + 32;

// Turns a row's raw scores over [first, last) of a split into weights e^(score - largest), and
// returns their sum. Positions outside get weight 0.
template <typename V>
inline float weigh(float* scores, int64_t split, int64_t first, int64_t last,
                   int64_t query_position, float scale, float slope, float& largest) {
  const V nothing = V::set(-__builtin_inff());
  const int64_t begin = first - first % 16;
  V most = nothing;
  for (int64_t position = begin; position < last; position += 16) {
    float* group = scores + (position - split);
    const V distance = V::iota() + V::set(static_cast<float>(position - query_position));
    const V score = V::fma(V::set(slope), distance, V::load(group) * V::set(scale));
    const V kept = V::keep(score, static_cast<int>(first > position ? first - position : 0),
                           static_cast<int>(last - position < 16 ? last - position : 16), nothing);
    kept.store(group);
    most = V::max(kept, most);
  }
  largest = V::largest(most);
  V total = V::zero();
  for (int64_t position = begin; position < last; position += 16) {
    float* group = scores + (position - split);
    const V weight = exp(V::load(group) - V::set(largest));
    weight.store(group);
    total = total + weight;
  }
  return V::sum(total);
}

// The running softmax of a row: sum of e^(score - largest) value, and of the weights alone.
template <typename V>
struct SoftmaxRow {
  float largest;
  float total;
  alignas(64) float mixed[kMaxHeadSize];

  void clear(int64_t padded_size) {
    largest = -__builtin_inff();
    total = 0;
    for (int64_t d = 0; d < padded_size; ++d) mixed[d] = 0;
  }

  // Adds a split's result.
  void merge(float split_largest, float split_total, const float* split_mixed, int64_t head_size) {
    const V both = V::max(V::set(largest), V::set(split_largest));
    const V before = exp(V::set(largest) - both);
    const V now = exp(V::set(split_largest) - both);
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
  void store(T* output, int64_t head_size) const {
    for (int64_t d = 0; d < head_size; d += 16) {
      const int64_t left = head_size - d;
      store_lanes(V::load(mixed + d) / V::set(total), output + d,
                  static_cast<int>(left < 16 ? left : 16));
    }
  }
};

}  // namespace sluice::kernels::cpu::simd
