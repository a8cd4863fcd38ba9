#pragma once

#include <bit>
#include <cstdint>

#include "kernels/float8.h"

// How an fp8 KV cache rounds: float8.h's numbers times a power of two, the scale, of each head of a
// slot. For CUDA's compiler and its tests too: no function of a library.
namespace sluice::kernels {

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
