#pragma once

#include "kernels/cpu/avx512/byte_parts.h"
#include "kernels/cpu/kernel_table.h"

namespace sluice::kernels::cpu::avx512bw {

// VPMADDWD: weights are widened to 16 bits once for all rows, and a four's numbers 0 and 2, then 1
// and 3, are multiplied and added in pairs. (VPMADDUBSW takes 8 bits, but its pairs saturate: what
// prevents that costs each row as many instructions as the second half does.)
template <typename Vec>
struct ByteProduct {
  using Element = int8_t;
  using Operand = uint32_t;  // two numbers of 16 bits
  using Sum = avx512::IntVec<Vec>;
  using SumElement = int32_t;
  static constexpr int kRows = 12;
  static constexpr int kSums = 24;
  static constexpr int kCodeSums = 12;
  static constexpr bool kSumsGroups = false;
  static constexpr bool kSharesOperands = true;
  static constexpr int kOperandsPerStep = 2;
  static constexpr int kStepElements = 4 * kTileColumns;
  struct Weights {
    __m512i even, odd;
  };

  static Weights load(const int8_t* tile) { return widened(_mm512_loadu_si512(tile)); }
  static Sum step(Sum sum, const Weights& weights, const uint32_t* operand, int rows) {
    sum.v = _mm512_add_epi32(sum.v, _mm512_madd_epi16(pair(operand[0]), weights.even));
    sum.v = _mm512_add_epi32(sum.v, _mm512_madd_epi16(pair(operand[rows]), weights.odd));
    asm("" : "+v"(sum.v));  // GCC 12 would regroup sums until they no longer fit in the registers
    return sum;
  }
  static void prepare(uint32_t four, uint32_t* operands) {
    const auto number = [four](int i) {
      return uint32_t{static_cast<uint16_t>(static_cast<int8_t>(four >> (8 * i)))};
    };
    operands[0] = number(0) | number(2) << 16;
    operands[1] = number(1) | number(3) << 16;
  }
  static Sum excess(const int32_t* /*weight_sums*/) { return Sum::zero(); }
  static Vec finished(const int32_t* sums, Sum /*excess*/) {
    return {_mm512_cvtepi32_ps(_mm512_loadu_si512(sums))};
  }

  // A column's multiplier in both 16-bit halves, and eight times it.
  struct Multipliers {
    __m512i twice, eights;
  };
  static Multipliers load_multipliers(const uint8_t* p) {
    const __m512i twice = avx512::load_doubled(p);
    return {twice, _mm512_slli_epi16(twice, 3)};
  }

  // Two steps' weights of sixteen columns from their codes: (code - 8) * multiplier.
  static void expand(const uint8_t* codes, const Multipliers& by, Weights& even, Weights& odd) {
    const __m512i all = _mm512_loadu_si512(codes);
    even.even = expanded(all, by);
    even.odd = expanded(_mm512_srli_epi16(all, 8), by);
    odd.even = expanded(_mm512_srli_epi16(all, 4), by);
    odd.odd = expanded(_mm512_srli_epi16(all, 12), by);
  }
  static void store(const Weights& weights, int8_t* to) {
    const __m512i low = _mm512_set1_epi16(0xff);
    _mm512_storeu_si512(to, _mm512_or_si512(_mm512_and_si512(weights.even, low),
                                            _mm512_slli_epi16(weights.odd, 8)));
  }

 private:
  static Weights widened(__m512i fours) {
    return {_mm512_srai_epi16(_mm512_slli_epi16(fours, 8), 8), _mm512_srai_epi16(fours, 8)};
  }
  static __m512i pair(uint32_t operand) { return _mm512_set1_epi32(static_cast<int>(operand)); }
  static __m512i expanded(__m512i codes, const Multipliers& by) {
    const __m512i code = _mm512_and_si512(codes, _mm512_set1_epi16(15));
    return _mm512_sub_epi16(_mm512_mullo_epi16(code, by.twice), by.eights);
  }
};

}  // namespace sluice::kernels::cpu::avx512bw
