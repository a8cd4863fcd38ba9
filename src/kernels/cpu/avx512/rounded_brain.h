#pragma once

#include "kernels/cpu/avx512/basic_vec.h"

namespace sluice::kernels::cpu::avx512 {

// To nearest even on the bits, for processors without AVX-512 BF16. `Own` is any type of the
// instruction set's own (kernel_table.h).
template <typename Own>
struct RoundedBrain {
  static __m256i narrow(__m512 x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i quiet = _mm512_set1_epi32(0x40);
    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, is_nan, high, quiet));
  }
};

}  // namespace sluice::kernels::cpu::avx512
