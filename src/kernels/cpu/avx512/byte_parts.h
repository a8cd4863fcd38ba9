#pragma once

#include <immintrin.h>

#include <cstdint>

// What products of int8 share, with VNNI and without.
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

// An int4 panel's multipliers of sixteen columns, each in both 16-bit halves.
static inline __m512i load_doubled(const uint8_t* multipliers) {
  const auto* p = reinterpret_cast<const __m128i*>(multipliers);
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
  return _mm512_or_si512(wide, _mm512_slli_epi32(wide, 16));
}

}  // namespace sluice::kernels::cpu::avx512
