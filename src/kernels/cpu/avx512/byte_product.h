#pragma once

#include "kernels/cpu/avx512/byte_parts.h"
#include "kernels/cpu/kernel_table.h"

namespace sluice::kernels::cpu::avx512 {

// VPDPBUSD: four products of unsigned and signed bytes are added to a 32-bit sum, which wraps. The
// input is 128 too large, so that it is unsigned; 128 times the weights' sum is taken off at the
// end, and what is left is exact.
template <typename Vec>
struct ByteProduct {
  using Element = int8_t;
  using Operand = uint32_t;  // four bytes
  using Sum = IntVec<Vec>;
  using SumElement = int32_t;
  static constexpr int kRows = 16;
  static constexpr int kSums = 24;
  static constexpr int kCodeSums = 24;
  static constexpr bool kSumsGroups = false;
  static constexpr bool kSharesOperands = true;
  static constexpr int kOperandsPerStep = 1;
  static constexpr int kStepElements = 4 * kTileColumns;
  struct Weights {
    __m512i fours;
  };

  static Weights load(const int8_t* tile) { return {_mm512_loadu_si512(tile)}; }
  static Sum step(Sum sum, const Weights& weights, const uint32_t* operand, int /*rows*/) {
    const __m512i input = _mm512_set1_epi32(static_cast<int>(*operand));
    return {_mm512_dpbusd_epi32(sum.v, input, weights.fours)};
  }
  static void prepare(uint32_t four, uint32_t* operand) { *operand = four ^ 0x80808080u; }
  static Sum excess(const int32_t* weight_sums) {
    return {_mm512_slli_epi32(_mm512_loadu_si512(weight_sums), 7)};
  }
  static Vec finished(const int32_t* sums, Sum excess) {
    return {_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(sums), excess.v))};
  }

  // A column's multiplier in both 16-bit halves, and eight times it in all bytes.
  struct Multipliers {
    __m512i twice, eights;
  };
  static Multipliers load_multipliers(const uint8_t* p) {
    const __m512i twice = load_doubled(p);
    return {twice, _mm512_or_si512(_mm512_slli_epi16(twice, 3), _mm512_slli_epi16(twice, 11))};
  }

  // Two steps' weights of sixteen columns from their codes: (code - 8) * multiplier. A product of
  // code and multiplier fits in eight bits, so that one 16-bit multiplication makes two.
  static void expand(const uint8_t* codes, const Multipliers& by, Weights& even, Weights& odd) {
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i both = _mm512_loadu_si512(codes);
    const __m512i first = _mm512_and_si512(both, low);
    const __m512i second = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    even.fours = _mm512_sub_epi8(_mm512_mullo_epi16(first, by.twice), by.eights);
    odd.fours = _mm512_sub_epi8(_mm512_mullo_epi16(second, by.twice), by.eights);
  }
  static void store(const Weights& weights, int8_t* to) { _mm512_storeu_si512(to, weights.fours); }
};

}  // namespace sluice::kernels::cpu::avx512
