#pragma once

#include <bit>
#include <cstdint>

// Numbers of 8 bits with a sign, 4 bits of exponent and 3 of mantissa (OCP's e4m3, without
// infinities), for fp8 weights, the activations beside them, and fp8 KV caches. For CUDA's compiler
// and its tests too: no function of a library.
namespace sluice::kernels {

struct Float8 {
  uint8_t bits;
};

inline constexpr float kFloat8Largest = 448.0f;

// A NaN of either sign.
constexpr bool is_float8_nan(uint8_t bits) {
  return (bits & 0x7fu) == 0x7fu;
}

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

}  // namespace sluice::kernels
