#include "peak.h"
#include "peak_vnni.h"

namespace sluice::benchmarks {

Peak measure_avx512_peak() {
  __m512i a = _mm512_set1_epi32(1);
  __m512i b = _mm512_set1_epi32(1);
  asm volatile("" : "+v"(a), "+v"(b));
  const auto step = [&](__m512 sum) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  };
  return {.bf16 = measure_steps<__m512>(step, 2.0 * 2 * 16), .int8 = measure_vnni()};
}

}  // namespace sluice::benchmarks
