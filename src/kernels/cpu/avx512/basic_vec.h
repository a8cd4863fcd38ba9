#pragma once

#include <immintrin.h>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/exp2.h"

namespace sluice::kernels::cpu::avx512 {

// Sixteen float32 lanes; BrainRounding narrows them to bfloat16. Loads widen and stores round to
// nearest even; those with a count touch the first `count` lanes only, and load zeros into the
// others.
template <typename BrainRounding>
struct BasicVec {
  using Vec = BasicVec;
  static constexpr int kWideRows = 12;  // rows of a float32 micro-kernel of `linear`
  static constexpr int kWideSums = 24;  // its sums at most
  static constexpr bool kSharesOperands = true;
  static constexpr int kAccumulators = 16;

  __m512 v;

  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec set(float x) { return {_mm512_set1_ps(x)}; }

  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load(const Half* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Vec load(const Brain* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Vec load(const int8_t* p) {
    return from_bytes(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Vec load(const float* p, int count) { return {_mm512_maskz_loadu_ps(mask(count), p)}; }
  static Vec load(const Half* p, int count) {
    return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask(count), p))};
  }
  static Vec load(const Brain* p, int count) {
    return widen(_mm256_maskz_loadu_epi16(mask(count), p));
  }

  static Vec load(const int8_t* p, int count) {
    return from_bytes(_mm_maskz_loadu_epi8(mask(count), p));
  }

  void store(float* p) const { _mm512_storeu_ps(p, v); }
  // Around the caches, to a whole line.
  void stream(float* p) const { _mm512_stream_ps(p, v); }
  void store(Half* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_half()); }
  void store(Brain* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_brain()); }
  void store(int8_t* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_bytes()); }
  void store(float* p, int count) const { _mm512_mask_storeu_ps(p, mask(count), v); }
  void store(Half* p, int count) const { _mm256_mask_storeu_epi16(p, mask(count), to_half()); }
  void store(Brain* p, int count) const { _mm256_mask_storeu_epi16(p, mask(count), to_brain()); }

  void store(int8_t* p, int count) const { _mm_mask_storeu_epi8(p, mask(count), to_bytes()); }

  // Sixteen whole numbers of int8, rounded to nearest even. Requires: |x| < 128, or NaN.
  static void store_bytes(Vec x, int8_t* p) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x.v)));
  }

  // Two consecutive elements of depth for each of sixteen columns, in the order of a tile.
  static void load_pair(const float* p, Vec& even, Vec& odd) {
    even = load(p);
    odd = load(p + 16);
  }
  static void load_pair(const Half* p, Vec& even, Vec& odd) {
    even = load(p);
    odd = load(p + 16);
  }
  static void load_pair(const int8_t* p, Vec& even, Vec& odd) {
    even = load(p);
    odd = load(p + 16);
  }
  static void load_pair(const Brain* p, Vec& even, Vec& odd) {
    const __m512i both = _mm512_loadu_si512(p);
    even = {_mm512_castsi512_ps(_mm512_slli_epi32(both, 16))};
    odd = {_mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(-65536)))};
  }

  // The first operand's NaN is the result's.
  static Vec max(Vec a, Vec b) { return {_mm512_max_ps(b.v, a.v)}; }
  static Vec min(Vec a, Vec b) { return {_mm512_min_ps(b.v, a.v)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
  static Vec abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
  static Vec round(Vec a) {
    return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  // 2^n for whole n in [-126, 127].
  static Vec power_of_two(Vec n) {
    const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
  }
  // 2^x within 2 units in the last place, for x up to 127; 0 below -126.
  static Vec exp2(Vec x) {
    const Vec r = {_mm512_reduce_ps(x.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
    const __mmask16 kept = _mm512_cmp_ps_mask(x.v, set(-126.0f).v, _CMP_NLT_UQ);
    return {_mm512_maskz_scalef_ps(kept, simd::exp2_fraction(r).v, x.v)};
  }
  // a, but zero where x < bound.
  static Vec zero_below(Vec a, Vec x, Vec bound) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, bound.v, _CMP_NLT_UQ), a.v)};
  }
  // a in lanes [first, last), x in the others.
  static Vec keep(Vec a, int first, int last, Vec x) {
    const unsigned range = (low_bits(last) & ~low_bits(first));
    return {_mm512_mask_mov_ps(x.v, static_cast<__mmask16>(range), a.v)};
  }
  // 0, 1, .. 15.
  static Vec iota() {
    return {_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
  }
  // Across the lanes, by halves.
  static float sum(Vec a) { return _mm512_reduce_add_ps(a.v); }
  static float largest(Vec a) { return _mm512_reduce_max_ps(a.v); }

  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }

 private:
  static unsigned low_bits(int count) {
    return count <= 0 ? 0u : count >= 16 ? 0xffffu : (1u << count) - 1u;
  }
  static __mmask16 mask(int count) { return static_cast<__mmask16>(low_bits(count)); }
  static Vec widen(__m256i x) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16))};
  }
  static Vec from_bytes(__m128i x) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x))}; }
  __m128i to_bytes() const { return _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)); }
  __m256i to_half() const {
    return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  __m256i to_brain() const { return BrainRounding::narrow(v); }
};

}  // namespace sluice::kernels::cpu::avx512
