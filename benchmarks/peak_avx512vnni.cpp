#include <immintrin.h>

#include "peak.h"
#include "peak_loop.h"

namespace sluice::benchmarks {
namespace {

constexpr int kTurns = 100;  // that the sums stay in registers
constexpr int kChains = 12;  // enough to hide an instruction's latency

// Keeps the compiler from folding the chains.
template <typename Register>
inline void keep(Register* sums) {
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) asm volatile("" : "+v"(sums[i]));
}

}  // namespace

// bfloat16 is widened and multiplied as float32.
Peak measure_avx512vnni_peak() {
  constexpr double kLanes = 2.0 * 16 * kChains;
  __m512i a = _mm512_set1_epi32(1);
  __m512i b = _mm512_set1_epi32(1);
  __m512 c = _mm512_set1_ps(1.0f);
  asm volatile("" : "+v"(a), "+v"(b), "+v"(c));
  Peak peak;
  peak.bf16 = measure_rate(
      [&] {
        __m512 sums[kChains] = {};
        for (int turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 12
          for (int i = 0; i < kChains; ++i) sums[i] = _mm512_fmadd_ps(c, c, sums[i]);
          keep(sums);
        }
      },
      kTurns * kLanes);
  peak.int8 = measure_rate(
      [&] {
        __m512i sums[kChains] = {};
        for (int turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 12
          for (int i = 0; i < kChains; ++i) sums[i] = _mm512_dpbusd_epi32(sums[i], a, b);
          keep(sums);
        }
      },
      4 * kTurns * kLanes);
  return peak;
}

}  // namespace sluice::benchmarks
