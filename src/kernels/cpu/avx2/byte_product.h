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
  friend IntVec operator+(IntVec x, IntVec y) {
    return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
  }
};

// VPMADDUBSW on the input's magnitudes and the weights with the input's sign: neither holds -128,
// so two products are at most 2 * 127 * 127 and do not saturate.
struct ByteProduct {
  using Element = int8_t;
  using Operand = uint32_t;  // four bytes
  using Sum = IntVec;
  using SumElement = int32_t;
  static constexpr int kRows = 4;
  static constexpr int kSums = 4;
  static constexpr int kCodeSums = 4;
  static constexpr bool kSharesOperands = false;
  static constexpr int kOperandsPerStep = 1;
  static constexpr int kStepElements = 4 * kTileColumns;
  struct Weights {
    __m256i a, b;
  };

  static Weights load(const int8_t* tile) { return {IntVec::at(tile), IntVec::at(tile + 32)}; }
  static IntVec step(IntVec sum, const Weights& weights, const uint32_t* operand, int /*rows*/) {
    const __m256i input = _mm256_set1_epi32(static_cast<int>(*operand));
    return {add(sum.a, input, weights.a), add(sum.b, input, weights.b)};
  }
  static void prepare(uint32_t four, uint32_t* operand) { *operand = four; }
  static IntVec excess(const int32_t* /*weight_sums*/) { return IntVec::zero(); }
  static Vec finished(const int32_t* sums, IntVec /*excess*/) {
    const IntVec sum = IntVec::load(sums);
    return {_mm256_cvtepi32_ps(sum.a), _mm256_cvtepi32_ps(sum.b)};
  }

  // A column's multiplier in both 16-bit halves, and eight times it in all bytes.
  struct Multipliers {
    __m256i twice[2], eights[2];
  };
  static Multipliers load_multipliers(const uint8_t* p) {
    Multipliers by;
    for (int half = 0; half < 2; ++half) {
      const __m256i wide =
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * half)));
      const __m256i twice = _mm256_or_si256(wide, _mm256_slli_epi32(wide, 16));
      by.twice[half] = twice;
      by.eights[half] = _mm256_or_si256(_mm256_slli_epi16(twice, 3), _mm256_slli_epi16(twice, 11));
    }
    return by;
  }

  // Two steps' weights of sixteen columns from their codes: (code - 8) * multiplier. A product of
  // code and multiplier fits in eight bits, so that one 16-bit multiplication makes two.
  static void expand(const uint8_t* codes, const Multipliers& by, Weights& even, Weights& odd) {
    expand_half(codes, by.twice[0], by.eights[0], even.a, odd.a);
    expand_half(codes + 32, by.twice[1], by.eights[1], even.b, odd.b);
  }
  static void store(const Weights& weights, int8_t* to) {
    IntVec::put(to, weights.a);
    IntVec::put(to + 32, weights.b);
  }

 private:
  static void expand_half(const uint8_t* codes, __m256i twice, __m256i eights, __m256i& even,
                          __m256i& odd) {
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i both = IntVec::at(codes);
    const __m256i first = _mm256_and_si256(both, low);
    const __m256i second = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    even = _mm256_sub_epi8(_mm256_mullo_epi16(first, twice), eights);
    odd = _mm256_sub_epi8(_mm256_mullo_epi16(second, twice), eights);
  }
  static __m256i add(__m256i sum, __m256i input, __m256i weights) {
    const __m256i pairs =
        _mm256_maddubs_epi16(_mm256_abs_epi8(input), _mm256_sign_epi8(weights, input));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

}  // namespace sluice::kernels::cpu::avx2
