#pragma once

#include "kernels/cuda/device/intrinsics.cuh"

// Numbers of 8 bits in KV caches, weights and activations, and how they become those that 16-bit
// matrix units multiply.
namespace sluice::kernels::cuda {

// A cache of numbers C: T, or of 8 bits with scales (kv_int8.h, kv_float8.h). `Scales` are a slot's
// as the cache has them, 0 where all bits are 0, and values() what they stand for, of its key and
// of its value. load() is for places that are not a multiple of their size.
template <typename C>
struct CacheNumbers {
  struct Scales {};
  static constexpr int kScaleBytes = 0;
};

template <>
struct CacheNumbers<int8_t> {
  using Scales = float2;
  static constexpr int kScaleBytes = sizeof(Scales);
  __device__ static float2 values(const Scales& scales) { return scales; }
  __device__ static Scales load(const void* all, int slot) {
    const auto* scales = static_cast<const float*>(all) + 2 * slot;
    return make_float2(scales[0], scales[1]);
  }
};

template <>
struct CacheNumbers<Float8> {
  using Scales = uint16_t;
  static constexpr int kScaleBytes = sizeof(Scales);
  __device__ static float2 values(Scales scales) {
    return make_float2(float8_scale_value(static_cast<uint8_t>(scales)),
                       float8_scale_value(static_cast<uint8_t>(scales >> 8)));
  }
  __device__ static Scales load(const void* all, int slot) {
    return static_cast<const Scales*>(all)[slot];
  }
};

// to_float8, by the device's instruction where there is one.
__device__ inline Float8 nearest_float8(float x) {
  if constexpr (kHasFloat8Units) {
    return round_to_float8(x);
  } else {
    return to_float8(x);
  }
}

// Whether the device has an instruction that makes T of a Float8. It would take bfloat16 more of
// them than widen_float8.
template <typename T>
inline constexpr bool kFloat8UnitsWiden = kHasFloat8Units && __is_same(T, Half);

// Two Float8 numbers as a pair of T; exact, but of a NaN any number. In each half of `pair` are a
// number and above it copies of its sign: shifted to T's mantissa and exponent this is T's number,
// but for some of the copies and for what the exponents' biases differ by, 2^8 or 2^120.
template <typename T>
__device__ inline uint32_t widen_float8(uint32_t pair) {
  constexpr bool kIsHalf = __is_same(T, Half);
  constexpr int kShift = kIsHalf ? 7 : 4;
  constexpr uint32_t kMask = kIsHalf ? 0xbf80bf80u : 0x87f087f0u;
  constexpr uint32_t kFactor = kIsHalf ? 0x5c005c00u : 0x7b807b80u;
  return multiply_pairs<T>(pair << kShift & kMask, kFactor);
}

// Four numbers C, int8 or Float8, as pairs of T; exact.
template <typename T, typename C>
__device__ inline uint2 widen_bytes(uint32_t bytes) {
  if constexpr (__is_same(C, Float8) && kFloat8UnitsWiden<T>) {
    return float8_to_half(bytes);
  } else if constexpr (__is_same(C, Float8)) {
    return make_uint2(widen_float8<T>(permute_bytes(bytes, 0, 0x9180)),
                      widen_float8<T>(permute_bytes(bytes, 0, 0xb3a2)));
  } else if constexpr (__is_same(T, Half)) {
    // 0x6400 + u is 1024 + u.
    const uint32_t moved = bytes ^ 0x80808080u;
    constexpr uint32_t kMinus1152 = 0xe480e480u;
    return make_uint2(add_pairs<T>(__byte_perm(moved, 0x64646464u, 0x4140), kMinus1152),
                      add_pairs<T>(__byte_perm(moved, 0x64646464u, 0x4342), kMinus1152));
  } else {
    // 0x4300 + u is 128 + u for u of 7 bits, and 0x4380 is 256: the byte's sign counts 128.
    const auto widen = [](uint32_t pair) {
      return add_pairs<T>(pair & 0xff7fff7fu, (pair & 0xff80ff80u) ^ 0x80008000u);
    };
    return make_uint2(widen(__byte_perm(bytes, 0x43434343u, 0x4140)),
                      widen(__byte_perm(bytes, 0x43434343u, 0x4342)));
  }
}

// The same of two words: pairs of their numbers 0, 1, 2 and 3.
template <typename T, typename C>
__device__ inline uint4 widen_both(uint32_t low, uint32_t high) {
  if constexpr (__is_same(C, Float8) && !kFloat8UnitsWiden<T>) {
    const auto widen = [&](uint32_t selector) {
      return widen_float8<T>(permute_bytes(low, high, selector));
    };
    return make_uint4(widen(0xc480), widen(0xd591), widen(0xe6a2), widen(0xf7b3));
  } else {
    const uint2 first = widen_bytes<T, C>(__byte_perm(low, high, 0x5140));
    const uint2 second = widen_bytes<T, C>(__byte_perm(low, high, 0x7362));
    return make_uint4(first.x, first.y, second.x, second.y);
  }
}

}  // namespace sluice::kernels::cuda
