#include "peak.h"
#include "peak_vnni.h"

namespace sluice::benchmarks {

// bfloat16 is widened and multiplied as float32.
Peak measure_avx512vnni_peak() {
  __m512 c = _mm512_set1_ps(1.0f);
  asm volatile("" : "+v"(c));
  const auto step = [&](__m512 sum) { return _mm512_fmadd_ps(c, c, sum); };
  return {.bf16 = measure_steps<__m512>(step, 2.0 * 16), .int8 = measure_vnni()};
}

}  // namespace sluice::benchmarks
