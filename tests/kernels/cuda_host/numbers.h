#pragma once

#include <bit>
#include <cstdint>

// bfloat16 and float16, rounded to nearest even as the device does it. A NaN stays one (0x7fff, as
// CUDA has it).
namespace sluice::kernels::cuda {

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

constexpr float to_float(float x) {
  return x;
}

constexpr float to_float(BFloat16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}

constexpr float to_float(Half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t moved = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  // The product corrects the exponent's bias, of subnormal numbers too.
  uint32_t value = std::bit_cast<uint32_t>(std::bit_cast<float>(moved) * 0x1p112f);
  if ((x.bits & 0x7c00u) == 0x7c00u) value |= 0x7f800000u;
  return std::bit_cast<float>(value | sign);
}

constexpr BFloat16 to_bfloat16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

constexpr Half to_half(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return {0x7fff};
  if (size >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // 65520 and more
  if (size < 0x38800000u) {  // below 2^-14: a sum with 1/2 rounds at 2^-24
    const uint32_t sum = std::bit_cast<uint32_t>(std::bit_cast<float>(size) + 0.5f);
    return {static_cast<uint16_t>(sign | (sum - 0x3f000000u))};
  }
  const uint32_t rounded = size - 0x38000000u + 0xfffu + (size >> 13 & 1u);
  return {static_cast<uint16_t>(sign | rounded >> 13)};
}

template <typename T>
constexpr T from_float(float x) {
  if constexpr (sizeof(T) == 4) {
    return x;
  } else if constexpr (__is_same(T, Half)) {
    return to_half(x);
  } else {
    return to_bfloat16(x);
  }
}

}  // namespace sluice::kernels::cuda
