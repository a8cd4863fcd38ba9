#include "peak.h"
#include "peak_avx512.h"

namespace sluice::benchmarks {

// bfloat16 is widened and multiplied as float32, int8 as 16 bits: two products a lane, and their
// sum, take two instructions.
Peak measure_avx512bw_peak() {
  __m512i a = _mm512_set1_epi32(1);
  __m512i b = _mm512_set1_epi32(1);
  asm volatile("" : "+v"(a), "+v"(b));
  const auto step = [&](__m512i sum) {
    __m512i products = _mm512_madd_epi16(a, b);
    asm volatile("" : "+v"(products));
    return _mm512_add_epi32(sum, products);
  };
  return {.bf16 = measure_fma(), .int8 = measure_steps<__m512i>(step, 2.0 * 2 * 16)};
}

}  // namespace sluice::benchmarks
