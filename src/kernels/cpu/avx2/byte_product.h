#pragma once

#include "kernels/cpu/avx2/vec.h"

namespace sluice::kernels::cpu::avx2 {

// Sixteen 32-bit sums.
struct IntVec {
  __m256i a, b;

  static __m256i at(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static void put(void* p, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }

  static IntVec zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static IntVec load(const int32_t* p) { return {at(p), at(p + 8)}; }
  void store(int32_t* p) const {
    put(p, a);
    put(p + 8, b);
  }
};

// VPMADDUBSW on the input's magnitudes and the weights with the input's sign: neither holds -128,
// so two products are at most 2 * 127 * 127 and do not saturate. On int4's codes, which have no
// sign, as they are.
struct ByteProduct {
  using Element = int8_t;
  using Operand = uint32_t;  // four bytes
  using Sum = IntVec;
  using SumElement = int32_t;
  static constexpr int kRows = 4;
  static constexpr int kSums = 4;
  static constexpr bool kSumsGroups = true;
  static constexpr bool kSharesOperands = false;
  static constexpr int kOperandsPerStep = 1;
  static constexpr int kStepElements = 4 * kTileColumns;
  struct Weights {
    __m256i a, b;
  };

  static Weights load(const int8_t* tile) { return {IntVec::at(tile), IntVec::at(tile + 32)}; }
  static IntVec step(IntVec sum, const Weights& weights, const uint32_t* operand, int /*rows*/) {
    const __m256i input = _mm256_set1_epi32(static_cast<int>(*operand));
    return kept(IntVec{add(sum.a, input, weights.a), add(sum.b, input, weights.b)});
  }
  static void prepare(uint32_t four, uint32_t* operand) { *operand = four; }
  static IntVec excess(const int32_t* /*weight_sums*/) { return IntVec::zero(); }
  static Vec finished(const int32_t* sums, IntVec /*excess*/) {
    const IntVec sum = IntVec::load(sums);
    return {_mm256_cvtepi32_ps(sum.a), _mm256_cvtepi32_ps(sum.b)};
  }

  // A column's multiplier in both 16-bit halves.
  struct Multipliers {
    __m256i a, b;
  };
  static Multipliers load_multipliers(const uint8_t* p) { return {doubled(p), doubled(p + 8)}; }

  // Two steps' codes of sixteen columns.
  static void split(const uint8_t* codes, Weights& even, Weights& odd) {
    const __m256i low = _mm256_set1_epi8(15);
    const Weights both = {IntVec::at(codes), IntVec::at(codes + 32)};
    even = {_mm256_and_si256(both.a, low), _mm256_and_si256(both.b, low)};
    odd = {_mm256_and_si256(_mm256_srli_epi16(both.a, 4), low),
           _mm256_and_si256(_mm256_srli_epi16(both.b, 4), low)};
  }

  // Sums in 16 bits: the low half of a column's word is of fours' first two numbers, the high one
  // of the others.
  struct GroupSums {
    __m256i a, b;
  };
  static GroupSums begin_group(uint32_t start) {
    const __m256i all = _mm256_set1_epi32(static_cast<int>(start));
    return {all, all};
  }
  static GroupSums add_codes(GroupSums sum, const Weights& codes, uint32_t operand) {
    const __m256i input = _mm256_set1_epi32(static_cast<int>(operand));
    return kept(GroupSums{_mm256_add_epi16(sum.a, _mm256_maddubs_epi16(codes.a, input)),
                          _mm256_add_epi16(sum.b, _mm256_maddubs_epi16(codes.b, input))});
  }
  static IntVec end_group(IntVec sum, const GroupSums& group, const Multipliers& by) {
    return {_mm256_add_epi32(sum.a, _mm256_madd_epi16(group.a, by.a)),
            _mm256_add_epi32(sum.b, _mm256_madd_epi16(group.b, by.b))};
  }
  // Minus eight times the sums of R rows' inputs [8][R], in the two halves of a word each.
  template <int R>
  static void group_starts(const uint32_t* input, uint32_t* starts) {
    if constexpr (8 % R == 0) {
      __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 4
      for (int i = 0; i < R; ++i)
        sum = _mm256_sub_epi16(sum, eight_times(IntVec::at(input + 8 * i)));
      __m128i rows = _mm_add_epi16(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
      if constexpr (R < 4) rows = _mm_add_epi16(rows, _mm_unpackhi_epi64(rows, rows));
      if constexpr (R < 2) rows = _mm_add_epi16(rows, _mm_srli_epi64(rows, 32));
      __builtin_memcpy(starts, &rows, R * sizeof(uint32_t));
    } else {
      for (int r = 0; r < R; ++r) {
        uint32_t own[8];
        for (int step = 0; step < 8; ++step) own[step] = input[step * R + r];
        group_starts<1>(own, starts + r);
      }
    }
  }

 private:
  // GCC 12 would regroup sums until they no longer fit in the registers.
  template <typename Sums>
  static Sums kept(Sums sums) {
    asm("" : "+x"(sums.a), "+x"(sums.b));
    return sums;
  }
  // Of two bytes, side by side.
  static __m256i eight_times(__m256i input) {
    return _mm256_maddubs_epi16(_mm256_set1_epi8(8), input);
  }
  static __m256i doubled(const uint8_t* p) {
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return _mm256_or_si256(wide, _mm256_slli_epi32(wide, 16));
  }
  static __m256i add(__m256i sum, __m256i input, __m256i weights) {
    const __m256i pairs =
        _mm256_maddubs_epi16(_mm256_abs_epi8(input), _mm256_sign_epi8(weights, input));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

}  // namespace sluice::kernels::cpu::avx2
