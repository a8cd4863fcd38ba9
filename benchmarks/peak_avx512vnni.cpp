#include "peak.h"
#include "peak_vnni.h"

namespace sluice::benchmarks {

// bfloat16 is widened and multiplied as float32.
Peak measure_avx512vnni_peak() {
  return {.bf16 = measure_fma(), .int8 = measure_vnni()};
}

}  // namespace sluice::benchmarks
