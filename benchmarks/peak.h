#pragma once

namespace sluice::benchmarks {

// Operations (two a multiply-add) per second of the calling thread, from registers alone: what the
// instruction that the linear layers of an instruction set use can do. Each runs only where that
// instruction set does.
struct Peak {
  double bf16 = 0;
  double int8 = 0;
};

Peak measure_amx_peak();
Peak measure_avx512_peak();
Peak measure_avx512vnni_peak();
Peak measure_avx512bw_peak();
Peak measure_avx2_peak();

}  // namespace sluice::benchmarks
