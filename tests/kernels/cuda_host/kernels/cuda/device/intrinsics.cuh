#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>

#include "fibers.h"
#include "host_stream.h"
#include "kernels/cuda/device/awaited.cuh"
#include "kernels/cuda/device_api.h"
#include "kernels/kv_float8.h"
#include "numbers.h"
#include "warp_units.h"

// The host's form of src/kernels/cuda/device/intrinsics.cuh: the same names, for kernels compiled
// as C++ and run by fibers.h. Stricter than a device where that finds mistakes: types convert only
// where asked to, addresses must be aligned, and lanes must agree on the function that they call.
namespace sluice::kernels::cuda {

inline constexpr int kWarpThreads = 32;

inline unsigned char* block_memory() {
  return host::block_memory();
}

inline void block_barrier() {
  host::meet_block();
}
inline void warp_barrier() {
  host::meet_warp("warp_barrier", [](void* const*) {}, nullptr);
}

template <typename T>
inline T warp_shuffle(T value, int lane) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  struct Shuffle {
    T value;
    int lane;
    T result;
  } shuffle{value, lane, value};
  host::meet_warp(
      "warp_shuffle",
      [](void* const* operands) {
        for (int i = 0; i < kWarpThreads; ++i) {
          auto* to = static_cast<Shuffle*>(operands[i]);
          to->result = static_cast<const Shuffle*>(operands[to->lane & 31])->value;
        }
      },
      &shuffle);
  return shuffle.result;
}

template <typename T>
inline T warp_shuffle_xor(T value, int mask) {
  return warp_shuffle(value, static_cast<int>(threadIdx.x) % kWarpThreads ^ mask);
}

inline uint32_t warp_ballot(bool value) {
  host::Ballot operand{value, 0};
  host::meet_warp("warp_ballot", &host::ballot, &operand);
  return operand.result;
}

template <typename T>
inline void warp_multiply(float (&sum)[4], const uint4& a, const uint2& b) {
  host::Multiply operand{a, b, sum};
  if constexpr (__is_same(T, Half)) {
    host::meet_warp("warp_multiply<Half>", &host::multiply_half, &operand);
  } else {
    static_assert(__is_same(T, BFloat16));
    host::meet_warp("warp_multiply<BFloat16>", &host::multiply_bfloat16, &operand);
  }
}

inline void warp_multiply_bytes(int32_t (&sum)[4], const uint4& a, const uint2& b) {
  host::MultiplyBytes operand{a, b, sum};
  host::meet_warp("warp_multiply_bytes", &host::multiply_bytes, &operand);
}

// More exact than a device, whose units may keep 13 bits behind the point of the largest product.
inline void warp_multiply_float8(float (&sum)[4], const uint4& a, const uint2& b) {
  host::Multiply operand{a, b, sum};
  host::meet_warp("warp_multiply_float8", &host::multiply_float8, &operand);
}

inline uint4 warp_load_transposed(const void* row_in_block_memory) {
  host::LoadTransposed operand{row_in_block_memory, {}};
  host::meet_warp("warp_load_transposed", &host::load_transposed, &operand);
  return operand.result;
}

template <typename T>
inline uint32_t pair_of(float low, float high) {
  return static_cast<uint32_t>(from_float<T>(high).bits) << 16 | from_float<T>(low).bits;
}

template <typename T>
inline float2 numbers_of(uint32_t pair) {
  return make_float2(to_float(T{static_cast<uint16_t>(pair)}),
                     to_float(T{static_cast<uint16_t>(pair >> 16)}));
}

template <typename T>
inline uint32_t add_pairs(uint32_t a, uint32_t b) {
  const auto sum = [&](int shift) {
    return to_float(T{static_cast<uint16_t>(a >> shift)}) +
           to_float(T{static_cast<uint16_t>(b >> shift)});
  };
  return pair_of<T>(sum(0), sum(16));
}

template <typename T>
inline uint32_t multiply_pairs(uint32_t a, uint32_t b) {
  const auto product = [&](int shift) {
    return to_float(T{static_cast<uint16_t>(a >> shift)}) *
           to_float(T{static_cast<uint16_t>(b >> shift)});
  };
  return pair_of<T>(product(0), product(16));
}

// prmt.b32: byte i of the result is byte (selector's digit i) % 8 of high:low; a digit of 8 and
// more spreads its sign.
constexpr uint32_t permute_bytes(uint32_t low, uint32_t high, uint32_t selector) {
  const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t digit = selector >> 4 * i & 15u;
    uint32_t byte = static_cast<uint32_t>(both >> 8 * (digit % 8)) & 255u;
    if (digit >= 8) byte = byte >= 128 ? 255u : 0u;
    result |= byte << 8 * i;
  }
  return result;
}

// As compute capability 8.0: kernels convert in steps of their own. Tests compare those with these.
inline constexpr bool kHasFloat8Units = false;

inline Float8 round_to_float8(float x) {
  return to_float8(x);
}

inline uint2 float8_to_half(uint32_t bytes) {
  const auto pair = [&](int shift) {
    return pair_of<Half>(from_float8({static_cast<uint8_t>(bytes >> shift)}),
                         from_float8({static_cast<uint8_t>(bytes >> (shift + 8))}));
  };
  return make_uint2(pair(0), pair(16));
}

inline uint4 load_once(const void* address) {
  host::expect_device_memory("load_once", address);
  return *static_cast<const uint4*>(address);
}

inline uint4 load_16_bytes(const void* address) {
  host::expect_device_memory("load_16_bytes", address);
  return *static_cast<const uint4*>(address);
}

inline void store_16_bytes(void* address, const uint4& value) {
  host::expect_device_memory("store_16_bytes", address);
  *static_cast<uint4*>(address) = value;
}

inline void copy_16_bytes(void* to_block_memory, const void* from, bool is_valid) {
  host::start_copy(to_block_memory, from, is_valid);
}
inline void commit_copies() {
  host::commit_copies();
}
template <int kGroups>
inline void wait_for_copies() {
  static_assert(kGroups >= 0);
  host::wait_for_copies(kGroups);
}

// The device's flushes subnormal results.
inline float fast_exp2(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
}

inline int round_to_int(float x) {
  if (!(std::fabs(x) < 0x1p31f)) host::fail("round_to_int: no int holds the number");
  return static_cast<int>(std::nearbyintf(x));
}

inline void wait_for_kernels() {
  host::wait_for_kernels();
}

struct Grid {
  dim3 blocks;
  int threads = 0;
  size_t block_memory_bytes = 0;
};

template <typename... Parameters, typename... Arguments>
Status launch(void (*kernel)(Parameters...), const Grid& grid, Stream stream,
              Arguments... arguments) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return kSuccess;
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> parameters;
  };
  const Call call{kernel, std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)};
  return host::put(stream, [call, grid] {
    return host::run({.blocks = grid.blocks,
                      .threads = grid.threads,
                      .block_memory_bytes = grid.block_memory_bytes,
                      .thread =
                          [](const void* data) {
                            const auto& made = *static_cast<const Call*>(data);
                            std::apply(made.kernel, made.parameters);
                          },
                      .call = &call,
                      .waits_itself = waits_itself<Parameters...>()});
  });
}

// CUDA's functions that C++ has under other names or not at all.
template <typename T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
inline float min(float a, float b) {
  return std::fmin(a, b);
}
inline float max(float a, float b) {
  return std::fmax(a, b);
}
// Saturates; a NaN becomes 0.
inline int __float2int_rn(float x) {
  if (x != x) return 0;
  if (x >= 0x1p31f) return std::numeric_limits<int>::max();
  return x < -0x1p31f ? std::numeric_limits<int>::min() : static_cast<int>(std::nearbyintf(x));
}
constexpr uint32_t __float_as_uint(float x) {
  return std::bit_cast<uint32_t>(x);
}
constexpr int __float_as_int(float x) {
  return std::bit_cast<int>(x);
}
constexpr float __uint_as_float(uint32_t x) {
  return std::bit_cast<float>(x);
}
constexpr float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
constexpr int __popc(uint32_t x) {
  return std::popcount(x);
}
constexpr int __clz(int x) {
  return std::countl_zero(static_cast<uint32_t>(x));
}
constexpr int __ffs(int x) {
  return x == 0 ? 0 : std::countr_zero(static_cast<uint32_t>(x)) + 1;
}
constexpr uint32_t __umulhi(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(static_cast<Wide>(a) * b >> 64);
}
// CUDA masks the digits' highest bit, which spreads a sign in permute_bytes.
constexpr uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
  return permute_bytes(a, b, selector & 0x7777u);
}

// Blocks run one after the other and a thread until it waits: a plain sum is one step.
template <typename T>
inline T atomicAdd(T* address, T value) {
  const T old = *address;
  *address = old + value;
  return old;
}

}  // namespace sluice::kernels::cuda
