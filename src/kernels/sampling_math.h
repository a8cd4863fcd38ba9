#pragma once

#include <bit>
#include <cstdint>

// Arithmetic that the host's sampler (src/sampling) and the device's (cuda/device/sample*.cu*) have
// in common: both must give the same bits. The third part, the weight of a logit, is written down
// twice: sampling/row_kernels_impl.h for the host's vectors, cuda/device/sample_math.cuh.
namespace sluice::kernels {

// A logit as an integer with the same order (-0 counts as +0). NaN falls outside
// [kKeyOfMinusInfinity, kKeyOfInfinity).
inline constexpr int32_t kKeyOfInfinity = 0x7f800000;
inline constexpr int32_t kKeyOfMinusInfinity = static_cast<int32_t>(0x807fffff);

constexpr int32_t key_of(float z) {
  const auto bits = std::bit_cast<int32_t>(z + 0.0f);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

constexpr float from_key(int32_t key) {
  return std::bit_cast<float>(key ^ ((key >> 31) & 0x7fffffff));
}

// A weight is an integer number of 2^-kMassBits.
inline constexpr int kMassBits = 40;

// ln(x) for x >= 1, from basic operations only, so that its bits are the same everywhere.
//
// x = m 2^e with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh(s) with s = (m - 1) / (m + 1), |s| <
// 0.172, by its series up to s^21.
constexpr double natural_log(double x) {
  constexpr int kFractionBits = 52;
  constexpr uint64_t kFraction = (uint64_t{1} << kFractionBits) - 1;
  constexpr int kExponentOfHalf = 1022;
  const auto bits = std::bit_cast<uint64_t>(x);
  int exponent = static_cast<int>(bits >> kFractionBits) - kExponentOfHalf;
  auto m = std::bit_cast<double>((bits & kFraction) | uint64_t{kExponentOfHalf} << kFractionBits);
  if (m < 0.70710678118654752) {
    m *= 2;
    --exponent;
  }
  const double s = (m - 1) / (m + 1);
  const double square = s * s;
  double series = 0;
  for (int n = 21; n >= 1; n -= 2) series = series * square + 1.0 / n;
  return exponent * 0.69314718055994531 + 2 * s * series;
}

// The mass that top_p asks for: that share of the whole, rounded up, and at least 1.
constexpr uint64_t wanted_mass(uint64_t whole, float top_p) {
  const double share = static_cast<double>(top_p) * static_cast<double>(whole);
  auto wanted = static_cast<uint64_t>(share);
  if (static_cast<double>(wanted) < share) ++wanted;
  if (wanted < 1) return 1;
  return wanted < whole ? wanted : whole;
}

// floor(bits whole / 2^64): where in a running weight the draw stops.
constexpr uint64_t drawn_mass(uint64_t bits, uint64_t whole) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((static_cast<Wide>(bits) * whole) >> 64);
}

}  // namespace sluice::kernels
