#pragma once

#include <bit>
#include <cstdint>

#include "kernels/cuda/device/intrinsics.cuh"

// What the sampler's warps and blocks of kSampleThreads threads do together.
namespace sluice::kernels::cuda {

inline constexpr int kSampleThreads = 512;
inline constexpr int kSampleWarps = kSampleThreads / kWarpThreads;

__device__ inline int lane_index() {
  return static_cast<int>(threadIdx.x) % kWarpThreads;
}
__device__ inline int warp_index() {
  return static_cast<int>(threadIdx.x) / kWarpThreads;
}

template <typename T>
__device__ T warp_sum(T value) {
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) value += warp_shuffle_xor(value, mask);
  return value;
}

template <typename T>
__device__ T warp_min(T value) {
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    const T other = warp_shuffle_xor(value, mask);
    value = other < value ? other : value;
  }
  return value;
}

// The sum of the values of this lane and those before it.
__device__ inline uint64_t warp_running_sum(uint64_t value) {
  for (int distance = 1; distance < kWarpThreads; distance *= 2) {
    const int from = lane_index() - distance;
    const uint64_t other = warp_shuffle(value, from < 0 ? 0 : from);
    if (from >= 0) value += other;
  }
  return value;
}

// A 64-bit sum to which threads add at once. Two atomic sums of 32 bits: those are fast in a
// block's memory, one of 64 bits is not.
struct Amount {
  uint32_t low;
  uint32_t high;
};

__device__ inline uint64_t value_of(const Amount& amount) {
  return static_cast<uint64_t>(amount.high) << 32 | amount.low;
}
__device__ inline Amount amount_of(uint64_t value) {
  return {static_cast<uint32_t>(value), static_cast<uint32_t>(value >> 32)};
}
__device__ inline void add_at_once(Amount& amount, uint64_t value) {
  const auto low = static_cast<uint32_t>(value);
  const uint32_t before = atomicAdd(&amount.low, low);
  const uint32_t high = static_cast<uint32_t>(value >> 32) + (before + low < low ? 1 : 0);
  if (high != 0) atomicAdd(&amount.high, high);
}

struct BlockScratch {
  uint64_t of_warp[kSampleWarps];
  uint64_t before;
  int32_t index;
  uint32_t counter;
};

// The sum over all threads, for each of them. T is uint64_t or double.
template <typename T>
__device__ __attribute__((noinline)) T block_sum(T value, BlockScratch& scratch) {
  value = warp_sum(value);
  block_barrier();
  if (lane_index() == 0) scratch.of_warp[warp_index()] = std::bit_cast<uint64_t>(value);
  block_barrier();
  T sum = 0;
#pragma unroll
  for (int warp = 0; warp < kSampleWarps; ++warp) sum += std::bit_cast<T>(scratch.of_warp[warp]);
  return sum;
}

__device__ __attribute__((noinline)) inline uint64_t block_min(uint64_t value,
                                                               BlockScratch& scratch) {
  value = warp_min(value);
  block_barrier();
  if (lane_index() == 0) scratch.of_warp[warp_index()] = value;
  block_barrier();
  uint64_t smallest = scratch.of_warp[0];
#pragma unroll
  for (int warp = 1; warp < kSampleWarps; ++warp) {
    smallest = scratch.of_warp[warp] < smallest ? scratch.of_warp[warp] : smallest;
  }
  return smallest;
}

struct Found {
  int32_t index;    // n if nothing was found
  uint64_t before;  // sum of the values before it
};

// The first index at which the running sum of values [n] exceeds `rest`.
// The values may have been written just before, and may be overwritten right after.
__device__ __attribute__((noinline)) inline Found block_find(const Amount* values, int32_t n,
                                                             uint64_t rest, BlockScratch& scratch) {
  block_barrier();
  const int32_t share = (n + kSampleThreads - 1) / kSampleThreads;
  const int32_t begin = min(n, share * static_cast<int32_t>(threadIdx.x));
  const int32_t end = min(n, begin + share);
  uint64_t own = 0;
#pragma unroll 1
  for (int32_t i = begin; i < end; ++i) own += value_of(values[i]);
  uint64_t running = warp_running_sum(own);
  if (lane_index() == kWarpThreads - 1) scratch.of_warp[warp_index()] = running;
  if (threadIdx.x == 0) scratch.index = n;
  block_barrier();
#pragma unroll
  for (int warp = 0; warp < kSampleWarps; ++warp) {
    running += warp < warp_index() ? scratch.of_warp[warp] : 0;
  }
  uint64_t before = running - own;
  if (before <= rest && rest < running) {
    int32_t i = begin;
#pragma unroll 1
    for (; before + value_of(values[i]) <= rest; ++i) before += value_of(values[i]);
    scratch.index = i;
    scratch.before = before;
  }
  block_barrier();
  const Found found{scratch.index, scratch.before};
  block_barrier();
  return found;
}

__device__ inline void sort_pair(uint64_t* data, int32_t a, int32_t b, int32_t n) {
  if (b >= n || data[a] <= data[b]) return;
  const uint64_t larger = data[a];
  data[a] = data[b];
  data[b] = larger;
}

// Sorts data [n] in ascending order: Batcher's bitonic network in the form in which every
// comparison puts the smaller element first, so that what is missing to a power of two may be
// thought of as large elements at the end.
__device__ __attribute__((noinline)) inline void block_sort(uint64_t* data, int32_t n) {
  int32_t size = 1;
  while (size < n) size *= 2;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  block_barrier();
  for (int32_t part = 2; part <= size; part *= 2) {
#pragma unroll 1
    for (int32_t i = thread; i < size / 2; i += kSampleThreads) {
      const int32_t place = i % (part / 2);
      const int32_t begin = (i - place) * 2;
      sort_pair(data, begin + place, begin + part - 1 - place, n);
    }
    block_barrier();
    for (int32_t distance = part / 4; distance > 0; distance /= 2) {
#pragma unroll 1
      for (int32_t i = thread; i < size / 2; i += kSampleThreads) {
        const int32_t a = i * 2 - i % distance;
        sort_pair(data, a, a + distance, n);
      }
      block_barrier();
    }
  }
}

}  // namespace sluice::kernels::cuda
