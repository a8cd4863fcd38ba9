#pragma once

#include "peak_avx512.h"

namespace sluice::benchmarks {
namespace {

// Of VPDPBUSD: four multiply-adds in each of sixteen lanes.
double measure_vnni() {
  __m512i a = _mm512_set1_epi32(1);
  __m512i b = _mm512_set1_epi32(1);
  asm volatile("" : "+v"(a), "+v"(b));
  return measure_steps<__m512i>([&](__m512i sum) { return _mm512_dpbusd_epi32(sum, a, b); },
                                2.0 * 4 * 16);
}

}  // namespace
}  // namespace sluice::benchmarks
