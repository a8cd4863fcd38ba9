#include <immintrin.h>

#include "peak.h"
#include "peak_loop.h"

namespace sluice::benchmarks {
namespace {

constexpr int kTurns = 100;  // that the sums stay in registers
constexpr int kChains = 10;

inline void keep(__m256i* sums) {
#pragma GCC unroll 10
  for (int i = 0; i < kChains; ++i) asm volatile("" : "+x"(sums[i]));
}

}  // namespace

// bfloat16 is widened and multiplied as float32; int8 takes three instructions for four products.
Peak measure_avx2_peak() {
  __m256i a = _mm256_set1_epi32(1);
  __m256i b = _mm256_set1_epi32(1);
  __m256 c = _mm256_set1_ps(1.0f);
  asm volatile("" : "+x"(a), "+x"(b), "+x"(c));
  Peak peak;
  peak.bf16 = measure_rate(
      [&] {
        __m256i sums[kChains] = {};
        for (int turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 10
          for (int i = 0; i < kChains; ++i) {
            sums[i] = _mm256_castps_si256(_mm256_fmadd_ps(c, c, _mm256_castsi256_ps(sums[i])));
          }
          keep(sums);
        }
      },
      kTurns * 2.0 * 8 * kChains);
  const __m256i ones = _mm256_set1_epi16(1);
  peak.int8 = measure_rate(
      [&] {
        __m256i sums[kChains] = {};
        for (int turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 10
          for (int i = 0; i < kChains; ++i) {
            __m256i pairs = _mm256_maddubs_epi16(a, b);
            asm volatile("" : "+x"(pairs));
            sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(pairs, ones));
          }
          keep(sums);
        }
      },
      kTurns * 2.0 * 32 * kChains);
  return peak;
}

}  // namespace sluice::benchmarks
