#include <immintrin.h>

#include "sampling/row_kernels_impl.h"

namespace {

struct Vec {
  static constexpr int kSize = 16;
  using Floats = __m512;
  using Mask = __mmask16;
  // Two times eight masses in units of 2^-kMassBits, as doubles; sums of 128 are exact.
  struct Sum {
    __m512d low = _mm512_setzero_pd();
    __m512d high = _mm512_setzero_pd();

    void add(__m512 weights, Mask mask) {
      const __m512d anchor = _mm512_set1_pd(kAnchor);
      const __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(weights));
      const __m512d b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(weights, 1));
      const __m512d masses_a = _mm512_sub_pd(_mm512_add_pd(a, anchor), anchor);
      const __m512d masses_b = _mm512_sub_pd(_mm512_add_pd(b, anchor), anchor);
      low = _mm512_mask_add_pd(low, static_cast<__mmask8>(mask), low, masses_a);
      high = _mm512_mask_add_pd(high, static_cast<__mmask8>(mask >> 8), high, masses_b);
    }
    double total() const { return _mm512_reduce_add_pd(_mm512_add_pd(low, high)); }
  };

  static Floats load(const float* from) { return _mm512_loadu_ps(from); }
  static Floats set(float value) { return _mm512_set1_ps(value); }
  static Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  // p * 2^n, for a p in [0.5, 2] and an n that the float `shifted` holds in its low bits.
  static Floats scale(Floats p, Floats shifted, float zero) {
    const __m512i n =
        _mm512_sub_epi32(_mm512_castps_si512(shifted), _mm512_castps_si512(set(zero)));
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(n, 23)));
  }
  static Mask greater(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
  static Mask at_least(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
  static Mask all() { return 0xffff; }
  static Mask and_not(Mask a, Mask b) { return static_cast<Mask>(a & ~b); }
  // Lanes from `lane` on.
  static Mask past(int lane) {
    return lane >= kSize ? Mask{0} : static_cast<Mask>(0xffffu << (lane < 0 ? 0 : lane));
  }
  static int count(Mask mask) { return __builtin_popcount(mask); }
  // Appends the chosen elements and their indexes; returns how many.
  static int collect(Floats values, Mask mask, int32_t first_index, float* z, int32_t* index) {
    const __m512i places =
        _mm512_add_epi32(_mm512_set1_epi32(first_index),
                         _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    _mm512_storeu_ps(z, _mm512_maskz_compress_ps(mask, values));
    _mm512_storeu_si512(index, _mm512_maskz_compress_epi32(mask, places));
    return __builtin_popcount(mask);
  }
};

}  // namespace

namespace sluice::sampling::avx512 {

const RowKernels kRowKernels = {key_range, weigh, weigh_all<Vec>, split<Vec>, collect<Vec>, bucket};

}  // namespace sluice::sampling::avx512
