#pragma once

#include <cstdint>

// Reads ahead. Not by the intrinsic: GCC 12 finds that a function which only prefetches has no
// effect, and drops the calls.
namespace sluice::kernels::cpu::simd {

// A line on its way to the first-level cache.
static inline void prefetch_line(const void* from) {
  asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(from)));
}

// A line on its way to the second-level cache.
static inline void prefetch_far_line(const void* from) {
  asm volatile("prefetcht1 %0" : : "m"(*static_cast<const char*>(from)));
}

// Lines on their way there.
static inline void prefetch(const void* from, int64_t num_bytes) {
  const char* p = static_cast<const char*>(from);
  for (int64_t i = 0; i < num_bytes; i += 64) prefetch_far_line(p + i);
}

}  // namespace sluice::kernels::cpu::simd
