#include <immintrin.h>

#include "sampling/row_kernels_impl.h"

namespace {

struct Vec {
  static constexpr int kSize = 8;
  using Floats = __m256;
  using Mask = __m256;
  // Two times four masses in units of 2^-kMassBits, as doubles; sums of 128 are exact.
  struct Sum {
    __m256d low = _mm256_setzero_pd();
    __m256d high = _mm256_setzero_pd();

    void add(__m256 weights, Mask mask) {
      const __m256d anchor = _mm256_set1_pd(kAnchor);
      const __m256 kept = _mm256_and_ps(weights, mask);
      const __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(kept));
      const __m256d b = _mm256_cvtps_pd(_mm256_extractf128_ps(kept, 1));
      low = _mm256_add_pd(low, _mm256_sub_pd(_mm256_add_pd(a, anchor), anchor));
      high = _mm256_add_pd(high, _mm256_sub_pd(_mm256_add_pd(b, anchor), anchor));
    }
    double total() const {
      alignas(32) double parts[4];
      _mm256_store_pd(parts, _mm256_add_pd(low, high));
      return (parts[0] + parts[1]) + (parts[2] + parts[3]);
    }
  };

  static Floats load(const float* from) { return _mm256_loadu_ps(from); }
  static Floats set(float value) { return _mm256_set1_ps(value); }
  static Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
  // p * 2^n, for a p in [0.5, 2] and an n that the float `shifted` holds in its low bits.
  static Floats scale(Floats p, Floats shifted, float zero) {
    const __m256i n =
        _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(set(zero)));
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(n, 23)));
  }
  static Mask greater(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
  static Mask at_least(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
  static Mask all() { return _mm256_castsi256_ps(_mm256_set1_epi32(-1)); }
  static Mask and_not(Mask a, Mask b) { return _mm256_andnot_ps(b, a); }
  // Lanes from `lane` on.
  static Mask past(int lane) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(lanes, _mm256_set1_epi32(lane - 1)));
  }
  static int count(Mask mask) {
    return __builtin_popcount(static_cast<unsigned>(_mm256_movemask_ps(mask)));
  }
  // Appends the chosen elements and their indexes; returns how many.
  static int collect(Floats values, Mask mask, int32_t first_index, float* z, int32_t* index) {
    alignas(32) float all_values[kSize];
    _mm256_store_ps(all_values, values);
    int count = 0;
    for (auto bits = static_cast<uint32_t>(_mm256_movemask_ps(mask)); bits != 0; bits &= bits - 1) {
      const int lane = std::countr_zero(bits);
      z[count] = all_values[lane];
      index[count++] = first_index + lane;
    }
    return count;
  }
};

}  // namespace

namespace sluice::sampling::avx2 {

const RowKernels kRowKernels = {key_range, weigh, weigh_all<Vec>, split<Vec>, collect<Vec>, bucket};

}  // namespace sluice::sampling::avx2
