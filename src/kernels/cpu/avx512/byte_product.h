#pragma once

#include "kernels/cpu/avx512/vec.h"

namespace sluice::kernels::cpu::avx512 {

// Sixteen 32-bit sums.
struct IntVec {
  __m512i v;

  static IntVec zero() { return {_mm512_setzero_si512()}; }
  static IntVec load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
  void store(int32_t* p) const { _mm512_storeu_si512(p, v); }
};

// VPDPBUSD: four products of unsigned and signed bytes are added to a 32-bit sum, which wraps. The
// input is 128 too large, so that it is unsigned; 128 times the weights' sum is taken off at the
// end, and what is left is exact.
struct ByteProduct {
  using Element = int8_t;
  using Operand = uint32_t;  // four bytes
  using Sum = IntVec;
  using SumElement = int32_t;
  static constexpr int kRows = Vec::kInputRows;
  static constexpr int kOperandsPerStep = 1;
  static constexpr int kStepElements = 4 * kTileColumns;
  struct Weights {
    __m512i fours;
  };

  static Weights load(const int8_t* tile) { return {_mm512_loadu_si512(tile)}; }
  static IntVec step(IntVec sum, const Weights& weights, const uint32_t* operand) {
    const __m512i input = _mm512_set1_epi32(static_cast<int>(*operand));
    return {_mm512_dpbusd_epi32(sum.v, input, weights.fours)};
  }
  static uint32_t operand(uint32_t four) { return four ^ 0x80808080u; }
  static Vec finished(const int32_t* sums, const int32_t* weight_sums) {
    const __m512i excess = _mm512_slli_epi32(_mm512_loadu_si512(weight_sums), 7);
    return {_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(sums), excess))};
  }

  // Thirty-two deep, sixteen columns: (code - 8) * multiplier. A product of code and multiplier
  // fits in eight bits, so that one 16-bit multiplication makes two.
  static void unpack(const uint8_t* codes, const uint8_t* multipliers, int8_t* to) {
    const __m512i bytes =
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(multipliers)));
    const __m512i twice = _mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 16));
    const __m512i eights =
        _mm512_or_si512(_mm512_slli_epi16(twice, 3), _mm512_slli_epi16(twice, 11));
    const __m512i low = _mm512_set1_epi8(15);
    for (int i = 0; i < 4; ++i) {
      const __m512i both = _mm512_loadu_si512(codes + i * 64);
      const __m512i even = _mm512_and_si512(both, low);
      const __m512i odd = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
      _mm512_storeu_si512(to + i * 128, _mm512_sub_epi8(_mm512_mullo_epi16(even, twice), eights));
      _mm512_storeu_si512(to + i * 128 + 64,
                          _mm512_sub_epi8(_mm512_mullo_epi16(odd, twice), eights));
    }
  }
};

}  // namespace sluice::kernels::cpu::avx512
