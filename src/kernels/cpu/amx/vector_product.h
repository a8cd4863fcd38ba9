#pragma once

#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/avx512/with_rows.h"
#include "kernels/cpu/simd/brain_attention.h"

namespace sluice::kernels::cpu::amx {

// Until it is destroyed, floating point is TDPBF16PS's: to nearest even, subnormal numbers are
// zero, and nothing traps.
class TileArithmetic {
 public:
  TileArithmetic() : before_(_mm_getcsr()) {
    _mm_setcsr(0x9fc0);
    memory_fence();
  }
  ~TileArithmetic() {
    memory_fence();
    _mm_setcsr(before_);
  }
  TileArithmetic(const TileArithmetic&) = delete;
  TileArithmetic& operator=(const TileArithmetic&) = delete;

 private:
  uint32_t before_;
};

// A Product (simd/brain_attention.h) of few rows with the bits of their tiles, which would be
// mostly empty and cost what full ones do.
//
// What one TDPBF16PS adds to a sum: fused multiply-adds from zero over the even numbers of its
// depth, the same over the odd ones, and then both sums together.
class VectorProduct {
 public:
  static constexpr bool kReadsAhead = true;
  static constexpr int kMaxRows = 4;

  static void configure(int64_t /*rows*/) {}

  template <int kCount>
  static void score_groups(int64_t rows, const Brain* queries, const Brain* const* keys,
                           int64_t head_size, float* scores, const Brain* const* ahead) {
    alignas(64) float wide[kMaxRows * kMaxHeadSize];
    widen(queries, rows * head_size, wide);
    const TileArithmetic scope;
    avx512::with_rows<kMaxRows>(rows, [&](auto r) {
      constexpr int kGroups = at_once<kCount>(r.value);
      for (int c = 0; c < kCount; c += kGroups, scores += kGroups * simd::kGroup) {
        avx512::with_choice(ahead != nullptr, [&](auto reads_ahead) {
          score_some<r.value, kGroups, reads_ahead.value>(wide, keys + c, head_size, scores,
                                                          reads_ahead.value ? ahead + c : nullptr);
        });
      }
    });
  }

  template <int kCount>
  static void mix_columns(int64_t rows, const Brain* weights, const Brain* const* values,
                          int64_t num_groups, int64_t head_size, float* part,
                          const Brain* const* ahead) {
    alignas(64) float wide[kMaxRows * kSoftmaxSplit];
    for (int64_t r = 0; r < rows; ++r) {
      widen(weights + r * kSoftmaxSplit, num_groups * simd::kGroup, wide + r * kSoftmaxSplit);
    }
    const TileArithmetic scope;
    avx512::with_rows<kMaxRows>(rows, [&](auto r) {
      constexpr int kColumns = at_once<kCount>(r.value);
      for (int c = 0; c < kCount; c += kColumns) {
        const simd::MixedValues<float> mixed{wide, values, ahead, 32 * c, num_groups, head_size};
        avx512::with_choice(ahead != nullptr, [&](auto reads_ahead) {
          mix_some<r.value, kColumns, reads_ahead.value>(mixed, part + 16 * c);
        });
      }
    });
  }

 private:
  using Vec = avx512::Vec;
  static constexpr int64_t kTileDepth = 32;  // of D; of positions it is a group

  // Groups or columns beside each other, whose sums fit into the registers.
  template <int kCount>
  static constexpr int at_once(int rows) {
    return rows == 1 || kCount == 1 ? kCount : 2;
  }

  // In float32, one of them is a factor for all lanes without an instruction more.
  static void widen(const Brain* from, int64_t count, float* to) {
    for (int64_t i = 0; i < count; i += 16) Vec::load(from + i).store(to + i);
  }

  template <int R, int C>
  static void clear(Vec (&sums)[C][R]) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sums[c][r] = Vec::zero();
    }
  }

  // Sums of R rows and C groups or columns over the depth of a tile.
  template <int R, int C>
  struct TileSums {
    Vec even[C][R];
    Vec odd[C][R];

    TileSums() {
      clear(even);
      clear(odd);
    }
    // Sixteen pairs, times a pair of each row.
    void add(int c, const Brain* pairs, const float* by, int64_t row_stride) {
      Vec first, second;
      Vec::load_pair(pairs, first, second);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        even[c][r] = Vec::fma(first, Vec::set(by[r * row_stride]), even[c][r]);
        odd[c][r] = Vec::fma(second, Vec::set(by[r * row_stride + 1]), odd[c][r]);
      }
    }
    void add_to(Vec (&sums)[C][R]) const {
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) sums[c][r] = sums[c][r] + (even[c][r] + odd[c][r]);
      }
    }
  };

  // `to` of the first row and group or column.
  template <int R, int C>
  static void store(const Vec (&sums)[C][R], float* to, int64_t row_stride) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sums[c][r].store(to + r * row_stride + 16 * c);
    }
  }

  // Not inlined, as mix_some: a call is where the compiler keeps to TileArithmetic.
  template <int R, int C, bool kAhead>
  __attribute__((noinline)) static void score_some(const float* queries, const Brain* const* keys,
                                                   int64_t head_size, float* scores,
                                                   const Brain* const* ahead) {
    Vec sums[C][R];
    clear(sums);
    for (int64_t begin = 0; begin < head_size; begin += kTileDepth) {
      const int64_t end = head_size - begin < kTileDepth ? head_size : begin + kTileDepth;
      TileSums<R, C> tile;
      for (int64_t d = begin; d < end; d += 2) {
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) {
          if constexpr (kAhead) simd::prefetch_far_line(ahead[c] + d * simd::kGroup);
          tile.add(c, keys[c] + d * simd::kGroup, queries + d, head_size);
        }
      }
      tile.add_to(sums);
    }
    store(sums, scores, simd::kScoreStride);
  }

  template <int R, int C, bool kAhead>
  __attribute__((noinline)) static void mix_some(const simd::MixedValues<float>& mixed,
                                                 float* part) {
    Vec sums[C][R];
    clear(sums);
    for (int64_t g = 0; g < mixed.num_groups; ++g) {
      const Brain* value = mixed.values[g] + mixed.first;
      const float* weights = mixed.weights + g * simd::kGroup;
      TileSums<R, C> tile;
      for (int64_t i = 0; i < simd::kGroup; i += 2) {
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) {
          const int64_t place = i * mixed.head_size + 32 * c;
          if constexpr (kAhead) simd::prefetch_far_line(mixed.ahead[g] + mixed.first + place);
          tile.add(c, value + place, weights + i, kSoftmaxSplit);
        }
      }
      tile.add_to(sums);
    }
    store(sums, part, mixed.head_size);
  }
};

}  // namespace sluice::kernels::cpu::amx
