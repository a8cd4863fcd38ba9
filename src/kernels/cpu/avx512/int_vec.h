#pragma once

#include <immintrin.h>

#include <cstdint>

namespace sluice::kernels::cpu::avx512 {

// Sixteen 32-bit sums. (A template over Vec for the instruction set's sake, see kernel_table.h.)
template <typename Vec>
struct IntVec {
  __m512i v;

  static IntVec zero() { return {_mm512_setzero_si512()}; }
  static IntVec load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
  void store(int32_t* p) const { _mm512_storeu_si512(p, v); }
  friend IntVec operator+(IntVec x, IntVec y) { return {_mm512_add_epi32(x.v, y.v)}; }
};

}  // namespace sluice::kernels::cpu::avx512
