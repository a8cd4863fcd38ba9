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
// so two products are at most 2 * 127 * 127 and do not saturate.
struct ByteProduct {
  using Element = int8_t;
  using Operand = uint32_t;  // four bytes
  using Sum = IntVec;
  using SumElement = int32_t;
  static constexpr int kRows = 4;
  static constexpr int kOperandsPerStep = 1;
  static constexpr int kStepElements = 4 * kTileColumns;
  struct Weights {
    __m256i a, b;
  };

  static Weights load(const int8_t* tile) { return {IntVec::at(tile), IntVec::at(tile + 32)}; }
  static IntVec step(IntVec sum, const Weights& weights, const uint32_t* operand) {
    const __m256i input = _mm256_set1_epi32(static_cast<int>(*operand));
    return {add(sum.a, input, weights.a), add(sum.b, input, weights.b)};
  }
  static uint32_t operand(uint32_t four) { return four; }
  static Vec finished(const int32_t* sums, const int32_t* /*weight_sums*/) {
    const IntVec sum = IntVec::load(sums);
    return {_mm256_cvtepi32_ps(sum.a), _mm256_cvtepi32_ps(sum.b)};
  }

  // Thirty-two deep, sixteen columns: (code - 8) * multiplier. A product of code and multiplier
  // fits in eight bits, so that one 16-bit multiplication makes two.
  static void unpack(const uint8_t* codes, const uint8_t* multipliers, int8_t* to) {
    for (int half = 0; half < 2; ++half, multipliers += 8, codes += 32, to += 32) {
      const __m256i bytes =
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(multipliers)));
      const __m256i twice = _mm256_or_si256(bytes, _mm256_slli_epi32(bytes, 16));
      const __m256i eights =
          _mm256_or_si256(_mm256_slli_epi16(twice, 3), _mm256_slli_epi16(twice, 11));
      const __m256i low = _mm256_set1_epi8(15);
      for (int i = 0; i < 4; ++i) {
        const __m256i both = IntVec::at(codes + i * 64);
        const __m256i even = _mm256_and_si256(both, low);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
        IntVec::put(to + i * 128, _mm256_sub_epi8(_mm256_mullo_epi16(even, twice), eights));
        IntVec::put(to + i * 128 + 64, _mm256_sub_epi8(_mm256_mullo_epi16(odd, twice), eights));
      }
    }
  }

 private:
  static __m256i add(__m256i sum, __m256i input, __m256i weights) {
    const __m256i pairs =
        _mm256_maddubs_epi16(_mm256_abs_epi8(input), _mm256_sign_epi8(weights, input));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

}  // namespace sluice::kernels::cpu::avx2
