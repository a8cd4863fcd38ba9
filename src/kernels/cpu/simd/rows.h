#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/lanes.h"
#include "kernels/cpu/simd/math.h"

// Operators that work row by row, over a vector type V. A row's sums go through four vectors in
// turn (element i into lane i mod 64), then across them and across the lanes by halves.
namespace sluice::kernels::cpu::simd {

// The sum of step(sum, vector, lanes) over `size` elements of p.
template <typename V, typename T, typename Step>
inline float sum_over(const T* p, int64_t size, Step step) {
  V a = V::zero(), b = V::zero(), c = V::zero(), d = V::zero();
  int64_t i = 0;
  for (; i + 64 <= size; i += 64) {
    a = step(a, V::load(p + i), 16);
    b = step(b, V::load(p + i + 16), 16);
    c = step(c, V::load(p + i + 32), 16);
    d = step(d, V::load(p + i + 48), 16);
  }
  const auto tail = [&](V sum) {
    if (i >= size) return sum;
    const int lanes = size - i < 16 ? static_cast<int>(size - i) : 16;
    const V value = load_lanes<V>(p + i, lanes);
    i += 16;
    return step(sum, value, lanes);
  };
  a = tail(a);
  b = tail(b);
  c = tail(c);
  d = tail(d);
  return V::sum((a + b) + (c + d));
}

template <typename V, typename T>
inline void rms_norm_row(const NormArgs& args, int64_t row) {
  const T* x = static_cast<const T*>(args.x) + row * args.size;
  const T* weight = static_cast<const T*>(args.weight);
  T* output = static_cast<T*>(args.output) + row * args.size;
  const float squares =
      sum_over<V>(x, args.size, [](V sum, V value, int) { return V::fma(value, value, sum); });
  const V mean = V::set(squares / static_cast<float>(args.size));
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
  const float sum =
      sum_over<V>(x, args.size, [](V partial, V value, int) { return partial + value; });
  const V mean = V::set(sum / static_cast<float>(args.size));
  const float squares = sum_over<V>(x, args.size, [&](V partial, V value, int lanes) {
    const V centred = V::keep(value - mean, 0, lanes, V::zero());
    return V::fma(centred, centred, partial);
  });
  const V variance = V::set(squares / static_cast<float>(args.size));
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
