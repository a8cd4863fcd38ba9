#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/lanes.h"
#include "kernels/cpu/simd/math.h"

// Operators that work row by row, over a vector type V. A row's sums go through four vectors in
// turn (element i into lane i mod 64), then across them and across the lanes by halves.
namespace sluice::kernels::cpu::simd {

template <typename V>
inline float sum_of(const V (&sums)[4]) {
  return V::sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <typename V, typename T>
inline void rms_norm_row(const NormArgs& args, int64_t row) {
  const T* x = static_cast<const T*>(args.x) + row * args.size;
  const T* weight = static_cast<const T*>(args.weight);
  T* output = static_cast<T*>(args.output) + row * args.size;
  V squares[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
  for_each_vector<V>(x, args.size, [&](V value, int64_t i, int) {
    squares[i / 16 % 4] = V::fma(value, value, squares[i / 16 % 4]);
  });
  const V mean = V::set(sum_of(squares) / static_cast<float>(args.size));
  const V scale = V::set(1.0f) / V::sqrt(mean + V::set(args.epsilon));
  for_each_vector<V>(x, args.size, [&](V value, int64_t i, int lanes) {
    store_lanes(value * scale * load_lanes<V>(weight + i, lanes), output + i, lanes);
  });
}

// The variance is taken around the mean in a second pass: nothing cancels.
template <typename V, typename T>
inline void layer_norm_row(const NormArgs& args, int64_t row) {
  const T* x = static_cast<const T*>(args.x) + row * args.size;
  const T* weight = static_cast<const T*>(args.weight);
  const T* bias = static_cast<const T*>(args.bias);
  T* output = static_cast<T*>(args.output) + row * args.size;
  V sums[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
  for_each_vector<V>(x, args.size,
                     [&](V value, int64_t i, int) { sums[i / 16 % 4] = sums[i / 16 % 4] + value; });
  const V mean = V::set(sum_of(sums) / static_cast<float>(args.size));
  V squares[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
  for_each_vector<V>(x, args.size, [&](V value, int64_t i, int lanes) {
    const V centred = V::keep(value - mean, 0, lanes, V::zero());
    squares[i / 16 % 4] = V::fma(centred, centred, squares[i / 16 % 4]);
  });
  const V variance = V::set(sum_of(squares) / static_cast<float>(args.size));
  const V scale = V::set(1.0f) / V::sqrt(variance + V::set(args.epsilon));
  for_each_vector<V>(x, args.size, [&](V value, int64_t i, int lanes) {
    const V scaled = (value - mean) * scale;
    const V y = V::fma(scaled, load_lanes<V>(weight + i, lanes), load_lanes<V>(bias + i, lanes));
    store_lanes(y, output + i, lanes);
  });
}

template <typename V, typename T>
inline void swiglu_row(const SwigluArgs& args, int64_t row) {
  const T* gate = static_cast<const T*>(args.x) + row * 2 * args.size;
  const T* up = gate + args.size;
  T* output = static_cast<T*>(args.output) + row * args.size;
  for_each_vector<V>(gate, args.size, [&](V value, int64_t i, int lanes) {
    store_lanes(silu(value) * load_lanes<V>(up + i, lanes), output + i, lanes);
  });
}

}  // namespace sluice::kernels::cpu::simd
