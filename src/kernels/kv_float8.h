#pragma once

#include <bit>
#include <cstdint>

// How an fp8 KV cache rounds: numbers of a sign, 4 bits of exponent and 3 of mantissa (OCP's e4m3,
// without infinities) times a power of two, the scale, of each head of a slot. For CUDA's compiler
// and its tests too: no function of a library.
namespace sluice::kernels {

struct Float8 {
  uint8_t bits;
};

// Rounds to nearest even; beyond 448 it is 448, and a NaN is 0x7f. As cvt.rn.satfinite does it.
constexpr Float8 to_float8(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return {0x7f};
  const uint32_t sign = bits >> 24 & 0x80u;
  if (size > 0x43e00000u) return {static_cast<uint8_t>(sign | 0x7e)};
  if (size < 0x3c800000u) {  // below 2^-6: a sum with 2^14 rounds at 2^-9
    const uint32_t sum = std::bit_cast<uint32_t>(std::bit_cast<float>(size) + 0x1p14f);
    return {static_cast<uint8_t>(sign | (sum - 0x46800000u))};
  }
  const uint32_t rounded = size - 0x3c000000u + 0x7ffffu + (size >> 20 & 1u);
  return {static_cast<uint8_t>(sign | rounded >> 20)};
}

constexpr float from_float8(Float8 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x80u) << 24;
  const uint32_t size = x.bits & 0x7fu;
  if (size == 0x7fu) return std::bit_cast<float>(0x7fffffffu);
  // The product corrects the exponent's bias, of subnormal numbers too.
  const float value = std::bit_cast<float>(size << 20) * 0x1p120f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
}

// A scale is kept as a float32's exponent field, in 8 bits. That of a head whose largest number is
// this (none is negative) brings it to [128, 256), far from 448 and so that what is 2^-13 of it has
// all bits of its mantissa. A NaN or an infinity makes it kFloat8NoScale, and the head's numbers 0.
inline constexpr uint8_t kFloat8NoScale = 255;

constexpr uint8_t float8_scale(float largest) {
  const uint32_t exponent = std::bit_cast<uint32_t>(largest) >> 23 & 255u;
  if (exponent == 255) return kFloat8NoScale;
  return static_cast<uint8_t>(exponent > 8 ? exponent - 7 : 1);
}

// What the head's numbers are multiplied with: a power of two, NaN of kFloat8NoScale; and 0 of 0,
// which no head has.
constexpr float float8_scale_value(uint8_t scale) {
  return std::bit_cast<float>(scale == kFloat8NoScale ? 0x7fffffffu : uint32_t{scale} << 23);
}

// x as the head's number.
constexpr float unscaled_float8(float x, uint8_t scale) {
  if (scale == kFloat8NoScale) return 0;
  return x * std::bit_cast<float>((254u - scale) << 23);
}

}  // namespace sluice::kernels
