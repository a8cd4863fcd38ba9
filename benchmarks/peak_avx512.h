#pragma once

#include <immintrin.h>

#include "peak_loop.h"

// Included by files that are built with AVX-512, each of which gets functions of its own.
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

// Operations per second of `step`, which adds products to one register, in kChains chains.
template <typename Register, typename Step>
double measure_steps(Step step, double operations_per_step) {
  return measure_rate(
      [&] {
        Register sums[kChains] = {};
        for (int turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 12
          for (int i = 0; i < kChains; ++i) sums[i] = step(sums[i]);
          keep(sums);
        }
      },
      operations_per_step * kTurns * kChains);
}

// Of float32 numbers, sixteen a step.
inline double measure_fma() {
  __m512 c = _mm512_set1_ps(1.0f);
  asm volatile("" : "+v"(c));
  return measure_steps<__m512>([&](__m512 sum) { return _mm512_fmadd_ps(c, c, sum); }, 2.0 * 16);
}

}  // namespace
}  // namespace sluice::benchmarks
