#pragma once

#include <bit>
#include <cstdint>

#include "kernels/cuda/device/intrinsics.cuh"
#include "kernels/sampling_math.h"

// A logit's weight and its place in the order of a row, bit for bit as sampling/sampler.h has them.
namespace sluice::kernels::cuda {

struct WeightScale {
  float max;
  float inverse_temperature;
};

__device__ inline float scaled(float z, WeightScale scale) {
  return (z - scale.max) * scale.inverse_temperature;
}

// Scaled logits below this have no mass.
inline constexpr float kLowestScaled = -29.0f;

// round(exp(scaled(z)) * 2^kMassBits) to the nearest even, with the operations of
// sampling/row_kernels_impl.h's exp_of. Requires: z <= scale.max.
__device__ inline uint64_t mass_of(float z, WeightScale scale) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  constexpr int32_t kRoundBits = std::bit_cast<int32_t>(kRound);
  constexpr int kFractionBits = 23;
  constexpr float kInteger = 8388608.0f;  // 2^23: floats from here on are integers
  constexpr int32_t kIntegerBits = std::bit_cast<int32_t>(kInteger);
  constexpr int32_t kIntegerExponent = kIntegerBits >> kFractionBits;

  float t = scaled(z, scale);
  t = t < -60.0f ? -60.0f : t;
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
  // The weight times 2^kMassBits, which is exact: n is -87 at least.
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - kRoundBits + kMassBits;
  const int32_t bits = std::bit_cast<int32_t>(p) + exponent * (1 << kFractionBits);
  const auto mass = std::bit_cast<float>(bits);
  // Where the host adds a power of two in double, 32-bit numbers do the same here.
  if (mass < kInteger) {
    return static_cast<uint32_t>(std::bit_cast<int32_t>(mass + kInteger) - kIntegerBits);
  }
  const uint64_t fraction = (bits & ((1 << kFractionBits) - 1)) | (1 << kFractionBits);
  return fraction << ((bits >> kFractionBits) - kIntegerExponent);
}

// An element's place in the order "larger first, of equal ones the lower id first": the smaller,
// the earlier.
using Rank = uint64_t;
inline constexpr Rank kLastRank = ~Rank{0};

__device__ inline Rank rank_of(int32_t key, int32_t id) {
  return static_cast<uint64_t>(~(static_cast<uint32_t>(key) ^ 0x80000000u)) << 32 |
         static_cast<uint32_t>(id);
}
__device__ inline int32_t key_of_rank(Rank rank) {
  return static_cast<int32_t>(~static_cast<uint32_t>(rank >> 32) ^ 0x80000000u);
}
__device__ inline int32_t id_of_rank(Rank rank) {
  return static_cast<int32_t>(static_cast<uint32_t>(rank));
}

// The lowest key whose logit, scaled, is at least ln(min_p), by bisection over all keys: scaling
// keeps the order.
__device__ inline int32_t lowest_key_of_ratio(float min_p, int32_t max_key, WeightScale scale) {
  const auto limit = static_cast<float>(-natural_log(1.0 / static_cast<double>(min_p)));
  int64_t lowest = kKeyOfMinusInfinity;
  int64_t highest = max_key;
  while (lowest < highest) {
    const int64_t middle = lowest + (highest - lowest) / 2;
    if (scaled(from_key(static_cast<int32_t>(middle)), scale) >= limit) {
      highest = middle;
    } else {
      lowest = middle + 1;
    }
  }
  return static_cast<int32_t>(lowest);
}

}  // namespace sluice::kernels::cuda
