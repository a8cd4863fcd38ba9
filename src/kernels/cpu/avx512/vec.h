#pragma once

#include "kernels/cpu/avx512/basic_vec.h"

namespace sluice::kernels::cpu::avx512 {

// AVX-512 BF16's own conversion: to nearest even, denormals to zero.
struct NativeBrain {
  static __m256i narrow(__m512 x) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)); }
};

using Vec = BasicVec<NativeBrain>;

}  // namespace sluice::kernels::cpu::avx512
