#pragma once

#include "kernels/cpu/avx512/pair_product.h"
#include "kernels/cpu/avx512/with_rows.h"
#include "kernels/cpu/simd/brain_attention.h"

namespace sluice::kernels::cpu::avx512 {

// A Product (simd/brain_attention.h) of VDPBF16PS: a pair of a row's numbers, or of its weights,
// meets sixteen positions, or numbers of D, at a time. The rows are unrolled whole.
struct PairTiles {
  static constexpr bool kReadsAhead = true;

  static void configure(int64_t /*rows*/) {}

  template <int kCount>
  static void score_groups(int64_t rows, const Brain* queries, const Brain* const* keys,
                           int64_t head_size, float* scores, const Brain* const* ahead) {
    with_rows<simd::kTileRows>(rows, [&](auto r) {
      with_choice(ahead != nullptr, [&](auto reads_ahead) {
        for (int c = 0; c < kCount; ++c, scores += simd::kGroup) {
          score_group<r.value, reads_ahead.value>(queries, keys[c], head_size, scores,
                                                  reads_ahead.value ? ahead[c] : nullptr);
        }
      });
    });
  }

  template <int kCount>
  static void mix_columns(int64_t rows, const Brain* weights, const Brain* const* values,
                          int64_t num_groups, int64_t head_size, float* part,
                          const Brain* const* ahead) {
    with_rows<simd::kTileRows>(rows, [&](auto r) {
      constexpr int kColumns = r.value * kCount <= kMostSums ? kCount : 1;
      for (int c = 0; c < kCount; c += kColumns) {
        const simd::MixedValues<Brain> mixed{weights, values, ahead, 32 * c, num_groups, head_size};
        with_choice(ahead != nullptr, [&](auto reads_ahead) {
          mix_some<r.value, kColumns, reads_ahead.value>(mixed, part + 16 * c);
        });
      }
    });
  }

 private:
  static constexpr int kMostSums = 24;
  static __m512bh pair(const Brain* p) {
    uint32_t two;
    __builtin_memcpy(&two, p, sizeof(two));
    return reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(two)));
  }
  static __m512bh pairs(const Brain* p) {
    return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p));
  }

  template <int R, bool kAhead>
  static void score_group(const Brain* queries, const Brain* keys, int64_t head_size, float* scores,
                          const Brain* ahead) {
    __m512 sums[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sums[r] = _mm512_setzero_ps();
    for (int64_t d = 0; d < head_size; d += 2) {
      const __m512bh positions = pairs(keys + d * simd::kGroup);
      if constexpr (kAhead) simd::prefetch_far_line(ahead + d * simd::kGroup);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        sums[r] = _mm512_dpbf16_ps(sums[r], positions, pair(queries + r * head_size + d));
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) _mm512_storeu_ps(scores + r * simd::kScoreStride, sums[r]);
  }

  template <int R, int C, bool kAhead>
  static void mix_some(const simd::MixedValues<Brain>& mixed, float* part) {
    const Brain* weights = mixed.weights;
    const int64_t head_size = mixed.head_size;
    __m512 sums[R][C];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) sums[r][c] = _mm512_setzero_ps();
    }
    for (int64_t g = 0; g < mixed.num_groups; ++g, weights += simd::kGroup) {
      const Brain* value = mixed.values[g] + mixed.first;
      for (int64_t i = 0; i < simd::kGroup; i += 2, value += 2 * head_size) {
        __m512bh numbers[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) {
          numbers[c] = pairs(value + 32 * c);
          if constexpr (kAhead) {
            simd::prefetch_far_line(mixed.ahead[g] + mixed.first + i * head_size + 32 * c);
          }
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const __m512bh weight = pair(weights + r * kSoftmaxSplit + i);
#pragma GCC unroll 4
          for (int c = 0; c < C; ++c) {
            sums[r][c] = _mm512_dpbf16_ps(sums[r][c], numbers[c], weight);
          }
        }
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) _mm512_storeu_ps(part + r * head_size + 16 * c, sums[r][c]);
    }
  }
};

}  // namespace sluice::kernels::cpu::avx512
