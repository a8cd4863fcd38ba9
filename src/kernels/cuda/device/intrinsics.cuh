#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device/awaited.cuh"
#include "kernels/cuda/device_api.h"
#include "kernels/kv_float8.h"

// All that the kernels take from CUDA beyond threadIdx, blockIdx, blockDim and gridDim: they
// include nothing else of it, so that tests/kernels/cuda_host can give them a file of the same name
// in which a block's threads are fibers of the host.
//
// Rules that the host's form of a kernel needs: all lanes of a warp reach a function that says
// "warp" together, all threads of a block one that says "block". No static shared memory. A kernel
// that has returned has written all that it ever will.
namespace sluice::kernels::cuda {

using BFloat16 = __nv_bfloat16;
using Half = __half;

inline constexpr int kWarpThreads = 32;

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(Half x) {
  return __half2float(x);
}
__device__ inline float to_float(BFloat16 x) {
  return __bfloat162float(x);
}

// Rounds to nearest even.
template <typename T>
__device__ inline T from_float(float x) {
  if constexpr (sizeof(T) == 4) {
    return x;
  } else if constexpr (__is_same(T, Half)) {
    return __float2half_rn(x);
  } else {
    return __float2bfloat16_rn(x);
  }
}

// The block's shared memory: as many bytes as the launch asked for, aligned to 16. Content is
// undefined at the start.
__device__ inline unsigned char* block_memory() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return bytes;
}

__device__ inline void block_barrier() {
  __syncthreads();
}
__device__ inline void warp_barrier() {
  __syncwarp();
}

// `value` of a lane, and of the lane whose number differs in the bits of `mask`; all lanes of the
// warp take part.
template <typename T>
__device__ inline T warp_shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
template <typename T>
__device__ inline T warp_shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
// Bit l is lane l's `value`.
__device__ inline uint32_t warp_ballot(bool value) {
  return __ballot_sync(0xffffffffu, value);
}

// sum += a b of a warp: a [16, 16] in four registers a lane, b [16, 8] in two, sum [16, 8] in four
// floats (PTX ISA, mma.sync.m16n8k16). T is Half or BFloat16.
template <typename T>
__device__ inline void warp_multiply(float (&sum)[4], const uint4& a, const uint2& b) {
  if constexpr (__is_same(T, Half)) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
  }
}

// The same of int8 with sums in int32: a [16, 32], b [32, 8] (mma.sync.m16n8k32).
__device__ inline void warp_multiply_bytes(int32_t (&sum)[4], const uint4& a, const uint2& b) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
}

// Four 8 x 8 matrices of 16-bit numbers from the block's memory, transposed (ldmatrix). Lane l
// names row l % 8 of matrix l / 8, 16 bytes; of matrix i it gets, in the result's register i,
// column l / 4 of rows 2 (l % 4) and the one after it: a half of warp_multiply's `b`.
__device__ inline uint4 warp_load_transposed(const void* row_in_block_memory) {
  const auto row = static_cast<uint32_t>(__cvta_generic_to_shared(row_in_block_memory));
  uint4 value;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(row)
               : "memory");
  return value;
}

// Two numbers of T, Half or BFloat16, in a register: `low` in its lower half. Rounds to nearest
// even.
template <typename T>
__device__ inline uint32_t pair_of(float low, float high) {
  uint32_t pair;
  if constexpr (__is_same(T, Half)) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
}

// The numbers of such a pair.
template <typename T>
__device__ inline float2 numbers_of(uint32_t pair) {
  if constexpr (__is_same(T, Half)) {
    float2 numbers;
    asm("{\n\t.reg .b16 low, high;\n\t"
        "mov.b32 {low, high}, %2;\n\t"
        "cvt.f32.f16 %0, low;\n\t"
        "cvt.f32.f16 %1, high;\n\t}"
        : "=f"(numbers.x), "=f"(numbers.y)
        : "r"(pair));
    return numbers;
  } else {
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
  }
}

// a + b of such pairs, each rounded to T.
template <typename T>
__device__ inline uint32_t add_pairs(uint32_t a, uint32_t b) {
  uint32_t sum;
  if constexpr (__is_same(T, Half)) {
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(a), "r"(b));
  } else {
    constexpr uint32_t kOnes = 0x3f803f80u;  // compute capability 8 has no plain sum
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(kOnes), "r"(b));
  }
  return sum;
}

// a b of such pairs, each rounded to T.
template <typename T>
__device__ inline uint32_t multiply_pairs(uint32_t a, uint32_t b) {
  uint32_t product;
  if constexpr (__is_same(T, Half)) {
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
  } else {
    constexpr uint32_t kMinusZeros = 0x80008000u;  // compute capability 8 has no plain product
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(a), "r"(b), "r"(kMinusZeros));
  }
  return product;
}

// Byte i of the result is byte (selector's digit i) % 8 of high:low; a digit of 8 and more spreads
// the byte's sign over all of its bits. CUDA's __byte_perm masks that bit of the digits away.
__device__ inline uint32_t permute_bytes(uint32_t low, uint32_t high, uint32_t selector) {
  uint32_t result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// Whether the device has instructions for Float8's numbers. Those below are theirs alone.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
inline constexpr bool kHasFloat8Units = true;
#else
inline constexpr bool kHasFloat8Units = false;
#endif

// warp_multiply of Float8: a [16, 32], b [32, 8] (mma.sync.m16n8k32). A device may add the products
// in fewer bits than float32 has. One without the units stops here: no weight is packed for it.
__device__ inline void warp_multiply_float8(float (&sum)[4], const uint4& a, const uint2& b) {
  if constexpr (kHasFloat8Units) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
  } else {
    __trap();
  }
}

// to_float8's bits.
__device__ inline Float8 round_to_float8(float x) {
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(0.0f), "f"(x));
  return {static_cast<uint8_t>(pair)};
}

// Four Float8 numbers as pairs of Half; exact.
__device__ inline uint2 float8_to_half(uint32_t bytes) {
  uint2 pairs;
  asm("{\n\t.reg .b16 low, high;\n\t"
      "mov.b32 {low, high}, %2;\n\t"
      "cvt.rn.f16x2.e4m3x2 %0, low;\n\t"
      "cvt.rn.f16x2.e4m3x2 %1, high;\n\t}"
      : "=r"(pairs.x), "=r"(pairs.y)
      : "r"(bytes));
  return pairs;
}

// 16 bytes that are read once in a step: they leave no trace in the caches of a multiprocessor.
__device__ inline uint4 load_once(const void* address) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address));
  return value;
}

// 16 bytes of the device's memory, loaded where this stands: the compiler takes a plain load to
// where its value is used, behind a branch, so that each is waited for alone.
__device__ inline uint4 load_16_bytes(const void* address) {
  uint4 value;
  asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address));
  return value;
}

// One store of 16 bytes to the device's memory: nvcc takes a uint4 that was computed apart into
// four.
__device__ inline void store_16_bytes(void* address, const uint4& value) {
  asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(address), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
}

// Copies 16 bytes into the block's memory while the thread goes on; zeros if not `is_valid`, and
// then nothing is read. Both addresses are multiples of 16.
__device__ inline void copy_16_bytes(void* to_block_memory, const void* from, bool is_valid) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(to_block_memory));
  const int size = is_valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(size)
               : "memory");
}
// Ends a group of the calling thread's copies.
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most `kGroups` of the calling thread's groups are on their way. Other threads see
// the bytes after the next block_barrier().
template <int kGroups>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

// 2^x to about 2 units in the last place; 0 for -infinity.
__device__ inline float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// To the nearest whole number, ties to even. Requires: an int holds it.
__device__ inline int round_to_int(float x) {
  return __float2int_rn(x);
}

// Waits for the kernels ahead, then lets the next one's blocks come (awaited.cuh).
__device__ inline void wait_for_kernels() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

struct Grid {
  dim3 blocks;
  int threads = 0;  // of a block; a multiple of 32
  size_t block_memory_bytes = 0;
};

// Puts a kernel into a stream; it may start early if its arguments are Awaited. An empty grid is
// nothing to do.
template <typename... Parameters, typename... Arguments>
Status launch(void (*kernel)(Parameters...), const Grid& grid, Stream stream,
              Arguments... arguments) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return kSuccess;
  constexpr size_t kMostWithoutAsking = 48 * 1024;
  if (grid.block_memory_bytes > kMostWithoutAsking) {
    const cudaError_t allowed = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                     cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                     static_cast<int>(grid.block_memory_bytes));
    if (allowed != cudaSuccess) return allowed;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = dim3(static_cast<unsigned>(grid.threads));
  config.dynamicSmemBytes = grid.block_memory_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &early;
  const bool is_early =
      waits_itself<Parameters...>() && may_start_early(reinterpret_cast<const void*>(kernel));
  config.numAttrs = is_early ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

}  // namespace sluice::kernels::cuda
