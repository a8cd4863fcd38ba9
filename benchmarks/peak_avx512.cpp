#include <immintrin.h>

#include "peak.h"
#include "peak_loop.h"

namespace sluice::benchmarks {
namespace {

constexpr int kTurns = 100;  // that the sums stay in registers
constexpr int kChains = 12;  // enough to hide an instruction's latency

// Keeps the compiler from folding the chains.
inline void keep(__m512i* sums) {
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) asm volatile("" : "+v"(sums[i]));
}

}  // namespace

Peak measure_avx512_peak() {
  constexpr double kPairs = 2.0 * 2 * 16 * kChains;
  __m512i a = _mm512_set1_epi32(1);
  __m512i b = _mm512_set1_epi32(1);
  asm volatile("" : "+v"(a), "+v"(b));
  Peak peak;
  peak.bf16 = measure_rate(
      [&] {
        __m512i sums[kChains] = {};
        for (int turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 12
          for (int i = 0; i < kChains; ++i) {
            sums[i] = _mm512_castps_si512(_mm512_dpbf16_ps(_mm512_castsi512_ps(sums[i]),
                                                           reinterpret_cast<__m512bh>(a),
                                                           reinterpret_cast<__m512bh>(b)));
          }
          keep(sums);
        }
      },
      kTurns * kPairs);
  peak.int8 = measure_rate(
      [&] {
        __m512i sums[kChains] = {};
        for (int turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 12
          for (int i = 0; i < kChains; ++i) sums[i] = _mm512_dpbusd_epi32(sums[i], a, b);
          keep(sums);
        }
      },
      2 * kTurns * kPairs);
  return peak;
}

}  // namespace sluice::benchmarks
