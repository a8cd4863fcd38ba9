#pragma once

#include <immintrin.h>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/exp2.h"

namespace sluice::kernels::cpu::avx2 {

// Sixteen float32 lanes in two registers. Loads widen and stores round to nearest even; those with
// a count touch the first `count` lanes only, and load zeros into the others.
struct Vec {
  static constexpr int kWideRows = 6;  // rows of a float32 micro-kernel of `linear`
  static constexpr int kWideSums = 6;  // its sums at most
  static constexpr bool kSharesOperands = false;
  static constexpr int kAccumulators = 4;

  __m256 a, b;

  static Vec zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static Vec set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }

  static Vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Vec load(const Half* p) {
    return {_mm256_cvtph_ps(load_half(p)), _mm256_cvtph_ps(load_half(p + 8))};
  }
  static Vec load(const Brain* p) { return {widen(load_half(p)), widen(load_half(p + 8))}; }
  static Vec load(const int8_t* p) {
    const __m128i bytes = load_half(p);
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
  }
  template <typename T>
  static Vec load(const T* p, int count) {
    T buffer[16] = {};
    for (int lane = 0; lane < count; ++lane) buffer[lane] = p[lane];
    return load(buffer);
  }

  // Around the caches, to a whole line.
  void stream(float* p) const {
    _mm256_stream_ps(p, a);
    _mm256_stream_ps(p + 8, b);
  }
  void store(float* p) const {
    _mm256_storeu_ps(p, a);
    _mm256_storeu_ps(p + 8, b);
  }
  void store(Half* p) const {
    store_half(p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
    store_half(p + 8, _mm256_cvtps_ph(b, _MM_FROUND_TO_NEAREST_INT));
  }
  void store(Brain* p) const {
    const __m256i packed = _mm256_packus_epi32(to_brain(a), to_brain(b));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
  }
  void store(int8_t* p) const {
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
    store_half(
        p, _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)));
  }
  template <typename T>
  void store(T* p, int count) const {
    T buffer[16];
    store(buffer);
    for (int lane = 0; lane < count; ++lane) p[lane] = buffer[lane];
  }

  // Sixteen whole numbers of int8, rounded to nearest even. Requires: |x| < 128, or NaN.
  static void store_bytes(Vec x, int8_t* p) {
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
    const __m256i sorted = _mm256_permute4x64_epi64(words, 0xd8);
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(sorted), _mm256_extracti128_si256(sorted, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
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
    const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 16));
    const __m256i high = _mm256_set1_epi32(-65536);
    even = {_mm256_castsi256_ps(_mm256_slli_epi32(first, 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(second, 16))};
    odd = {_mm256_castsi256_ps(_mm256_and_si256(first, high)),
           _mm256_castsi256_ps(_mm256_and_si256(second, high))};
  }

  // The first operand's NaN is the result's.
  static Vec max(Vec x, Vec y) { return {_mm256_max_ps(y.a, x.a), _mm256_max_ps(y.b, x.b)}; }
  static Vec min(Vec x, Vec y) { return {_mm256_min_ps(y.a, x.a), _mm256_min_ps(y.b, x.b)}; }
  static Vec fma(Vec x, Vec y, Vec z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
  }
  static Vec sqrt(Vec x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
  static Vec abs(Vec x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
  }
  static Vec round(Vec x) {
    constexpr int kMode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.a, kMode), _mm256_round_ps(x.b, kMode)};
  }
  // 2^n for whole n in [-126, 127].
  static Vec power_of_two(Vec n) { return {power_of_two(n.a), power_of_two(n.b)}; }
  // 2^x within 2 units in the last place, for x up to 127; 0 below -126.
  static Vec exp2(Vec x) {
    const Vec bounded = max(x, set(-126.0f));
    const Vec n = {_mm256_floor_ps(bounded.a), _mm256_floor_ps(bounded.b)};
    return zero_below(simd::exp2_fraction(bounded - n) * power_of_two(n), x, set(-126.0f));
  }
  // y, but zero where x < bound.
  static Vec zero_below(Vec y, Vec x, Vec bound) {
    return {_mm256_and_ps(_mm256_cmp_ps(x.a, bound.a, _CMP_NLT_UQ), y.a),
            _mm256_and_ps(_mm256_cmp_ps(x.b, bound.b, _CMP_NLT_UQ), y.b)};
  }
  // y in lanes [first, last), x in the others.
  static Vec keep(Vec y, int first, int last, Vec x) {
    const Vec lane = iota();
    return {keep(y.a, lane.a, first, last, x.a), keep(y.b, lane.b, first, last, x.b)};
  }
  // 0, 1, .. 15.
  static Vec iota() {
    return {_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_ps(8, 9, 10, 11, 12, 13, 14, 15)};
  }
  // Across the lanes, by halves.
  static float sum(Vec x) {
    const __m256 eight = _mm256_add_ps(x.a, x.b);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float largest(Vec x) {
    const __m256 eight = _mm256_max_ps(x.a, x.b);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

  friend Vec operator+(Vec x, Vec y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  friend Vec operator-(Vec x, Vec y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
  friend Vec operator*(Vec x, Vec y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  friend Vec operator/(Vec x, Vec y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }

 private:
  static __m128i load_half(const void* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static void store_half(void* p, __m128i x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x); }
  static __m256 widen(__m128i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
  }
  // The upper halves, rounded to nearest even; NaN becomes a quiet one.
  static __m256i to_brain(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
    const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(rounded, quiet, is_nan);
  }
  static __m256 power_of_two(__m256 n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
  }
  static __m256 keep(__m256 y, __m256 lane, int first, int last, __m256 x) {
    const __m256 above = _mm256_cmp_ps(lane, _mm256_set1_ps(static_cast<float>(first)), _CMP_GE_OQ);
    const __m256 below = _mm256_cmp_ps(lane, _mm256_set1_ps(static_cast<float>(last)), _CMP_LT_OQ);
    return _mm256_blendv_ps(x, y, _mm256_and_ps(above, below));
  }
};

}  // namespace sluice::kernels::cpu::avx2
