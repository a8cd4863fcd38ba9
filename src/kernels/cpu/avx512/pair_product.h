#pragma once

#include "kernels/cpu/avx512/vec.h"

namespace sluice::kernels::cpu::avx512 {

// VDPBF16PS: a pair of bfloat16 products is added to a float32 sum in one instruction. Denormal
// numbers count as zero.
struct PairProduct {
  using Element = Brain;
  using Operand = uint32_t;  // a pair
  using Sum = Vec;
  using SumElement = float;
  static constexpr int kRows = 16;
  static constexpr int kSums = 24;
  static constexpr bool kSharesOperands = true;
  static constexpr bool kCopiesPairs = true;  // an operand is a pair as it lies in x
  static constexpr int kOperandsPerStep = 1;
  static constexpr int kStepElements = 2 * kTileColumns;
  struct Weights {
    __m512i pairs;
  };

  static Weights load(const Brain* tile) { return {_mm512_loadu_si512(tile)}; }
  static Vec step(Vec sum, const Weights& weights, const uint32_t* operand, int /*rows*/) {
    const __m512i input = _mm512_set1_epi32(static_cast<int>(*operand));
    return {_mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(input),
                             reinterpret_cast<__m512bh>(weights.pairs))};
  }
  static void prepare(const Brain* pair, int count, uint32_t* operand, int64_t /*rows*/) {
    *operand = pair[0].bits | (count > 1 ? uint32_t{pair[1].bits} << 16 : 0u);
  }
};

}  // namespace sluice::kernels::cpu::avx512
