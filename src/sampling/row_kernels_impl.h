// The body of row_kernels_avx2.cpp and row_kernels_avx512.cpp: plain loops over one group, which
// the compiler turns into that file's vectors. Everything is local to the file that includes it.

#include <bit>
#include <cstdint>
#include <limits>

#include "sampling/row_kernels.h"

namespace {

using sluice::sampling::Bracket;
using sluice::sampling::Collector;
using sluice::sampling::GroupCount;
using sluice::sampling::GroupSplit;
using sluice::sampling::KeyRange;
using sluice::sampling::kGroup;
using sluice::sampling::kMassBits;
using sluice::sampling::kNumBuckets;
using sluice::sampling::WeightScale;

inline int32_t key_of(float z) {
  const int32_t bits = std::bit_cast<int32_t>(z + 0.0f);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

// exp(t) for t <= 0, within 2 units of the last place; below e^-60 it stays at e^-60, whose mass
// rounds to nothing. Cephes' expf: t = n ln 2 + r, a polynomial for e^r, and n into the exponent.
inline float exp_of(float t) {
  t = t < -60.0f ? -60.0f : t;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = __builtin_fmaf(t, 1.44269504088896341f, kRound);
  const float n = shifted - kRound;
  const float r = __builtin_fmaf(n, 2.12194440e-4f, __builtin_fmaf(n, -0.693359375f, t));
  float p = 1.9875691500e-4f;
  p = __builtin_fmaf(p, r, 1.3981999507e-3f);
  p = __builtin_fmaf(p, r, 8.3334519073e-3f);
  p = __builtin_fmaf(p, r, 4.1665795894e-2f);
  p = __builtin_fmaf(p, r, 1.6666665459e-1f);
  p = __builtin_fmaf(p, r, 5.0000001201e-1f);
  p = __builtin_fmaf(p, r * r, r) + 1.0f;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  return std::bit_cast<float>(std::bit_cast<int32_t>(p) + exponent * (1 << 23));
}

inline float scaled(float z, WeightScale scale) {
  return (z - scale.max) * scale.inverse_temperature;
}

constexpr double kAnchor = static_cast<double>(1 << (52 - kMassBits));

KeyRange key_range(const float* z, int size) {
  int32_t smallest = INT32_MAX;
  int32_t largest = INT32_MIN;
  for (int i = 0; i < size; ++i) {
    const int32_t key = key_of(z[i]);
    smallest = key < smallest ? key : smallest;
    largest = key > largest ? key : largest;
  }
  return {smallest, largest};
}

// A mass is made by adding a power of two so large that the sum's last bit is 2^-kMassBits: the
// sum's bit pattern then counts in that unit.
uint64_t weigh(const float* z, int size, WeightScale scale, int32_t lowest_key, uint64_t* mass) {
  constexpr uint64_t kAnchorBits = std::bit_cast<uint64_t>(kAnchor);
  alignas(64) float weights[kGroup];
  for (int i = 0; i < size; ++i) {
    const float weight = exp_of(scaled(z[i], scale));
    weights[i] = key_of(z[i]) < lowest_key ? 0.0f : weight;
  }
  uint64_t sum = 0;
  for (int i = 0; i < size; ++i) {
    mass[i] = std::bit_cast<uint64_t>(static_cast<double>(weights[i]) + kAnchor) - kAnchorBits;
    sum += mass[i];
  }
  return sum;
}

// exp_of, lane by lane the same operations.
template <typename Vec>
inline typename Vec::Floats exp_of_lanes(typename Vec::Floats t) {
  t = Vec::max(t, Vec::set(-60.0f));
  constexpr float kRound = 12582912.0f;
  const auto round = Vec::set(kRound);
  const auto shifted = Vec::fma(t, Vec::set(1.44269504088896341f), round);
  const auto n = Vec::sub(shifted, round);
  const auto r = Vec::fma(n, Vec::set(2.12194440e-4f), Vec::fma(n, Vec::set(-0.693359375f), t));
  auto p = Vec::set(1.9875691500e-4f);
  p = Vec::fma(p, r, Vec::set(1.3981999507e-3f));
  p = Vec::fma(p, r, Vec::set(8.3334519073e-3f));
  p = Vec::fma(p, r, Vec::set(4.1665795894e-2f));
  p = Vec::fma(p, r, Vec::set(1.6666665459e-1f));
  p = Vec::fma(p, r, Vec::set(5.0000001201e-1f));
  p = Vec::add(Vec::fma(p, Vec::mul(r, r), r), Vec::set(1.0f));
  return Vec::scale(p, shifted, kRound);
}

// The group itself, or a copy of it that is filled up with -infinity, whose mass is zero.
inline const float* whole_vectors(const float* z, int size, int lanes, float* padded) {
  if (size % lanes == 0) return z;
  for (int i = 0; i < size; ++i) padded[i] = z[i];
  for (int i = size; i % lanes != 0; ++i) padded[i] = -std::numeric_limits<float>::infinity();
  return padded;
}

inline uint64_t units(double sum) {
  return static_cast<uint64_t>(sum * static_cast<double>(uint64_t{1} << kMassBits));
}

template <typename Vec>
uint64_t weigh_all(const float* z, int size, WeightScale scale) {
  alignas(64) float padded[kGroup];
  z = whole_vectors(z, size, Vec::kSize, padded);
  const auto max = Vec::set(scale.max);
  const auto inverse = Vec::set(scale.inverse_temperature);
  typename Vec::Sum whole;
  for (int i = 0; i < size; i += Vec::kSize) {
    whole.add(exp_of_lanes<Vec>(Vec::mul(Vec::sub(Vec::load(z + i), max), inverse)), Vec::all());
  }
  return units(whole.total());
}

template <typename Vec>
GroupSplit split(const float* z, int size, WeightScale scale, Bracket bracket, Collector inside) {
  alignas(64) float padded[kGroup];
  z = whole_vectors(z, size, Vec::kSize, padded);
  const auto max = Vec::set(scale.max);
  const auto inverse = Vec::set(scale.inverse_temperature);
  const auto lowest = Vec::set(bracket.lowest);
  const auto highest = Vec::set(bracket.highest);
  typename Vec::Sum whole;
  typename Vec::Sum above;
  GroupSplit found;
  for (int i = 0; i < size; i += Vec::kSize) {
    const auto values = Vec::load(z + i);
    const auto weights = exp_of_lanes<Vec>(Vec::mul(Vec::sub(values, max), inverse));
    const auto is_above = Vec::greater(values, highest);
    whole.add(weights, Vec::all());
    above.add(weights, is_above);
    const int count = Vec::collect(values, Vec::and_not(Vec::at_least(values, lowest), is_above),
                                   inside.first_index + i, inside.z, inside.index);
    inside.z += count;
    inside.index += count;
    found.num_inside += count;
  }
  found.whole = units(whole.total());
  found.above = units(above.total());
  return found;
}

template <typename Vec>
GroupCount collect(const float* z, int size, Bracket bracket, Collector inside) {
  alignas(64) float padded[kGroup];
  const int first_padding = size;
  z = whole_vectors(z, size, Vec::kSize, padded);
  const auto lowest = Vec::set(bracket.lowest);
  const auto highest = Vec::set(bracket.highest);
  GroupCount found;
  for (int i = 0; i < size; i += Vec::kSize) {
    const auto values = Vec::load(z + i);
    const auto is_above = Vec::greater(values, highest);
    const auto is_inside = Vec::and_not(Vec::and_not(Vec::at_least(values, lowest), is_above),
                                        Vec::past(first_padding - i));
    const int count = Vec::collect(values, is_inside, inside.first_index + i,
                                   inside.z + found.num_inside, inside.index + found.num_inside);
    found.num_inside += count;
    found.num_above += Vec::count(is_above);
  }
  return found;
}

void bucket(const float* z, int size, WeightScale scale, float buckets_per_unit, int32_t* buckets) {
  constexpr float kLast = static_cast<float>(kNumBuckets - 1);
  for (int i = 0; i < size; ++i) {
    const float place = -scaled(z[i], scale) * buckets_per_unit;
    buckets[i] = static_cast<int32_t>(place < kLast ? place : kLast);
  }
}

}  // namespace
