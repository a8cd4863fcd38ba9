#pragma once

#include "kernels/cpu/simd/code_panel.h"
#include "kernels/cpu/simd/linear.h"

// int4 weights where the only products of bytes are sums of two in 16 bits (P::kSumsGroups). A
// code's are small enough for the 16 of a part and lane: they are added in 16 bits, and a part's
// multipliers come once, with the widening to 32 bits. That is two instructions for each 32
// products where bytes take four.
//
// A weight is (code - 8) * multiplier. A lane starts with minus eight times its inputs' sum; the 16
// sums of (code - 8) * input are at most 16 * 8 * 127, and what overflows on the way comes back.
//
// P has group_starts() for the first values of a part, begin_group(), split() for two steps' codes,
// add_codes() for one step's, and end_group() for the multipliers.
namespace sluice::kernels::cpu::simd {

inline constexpr int kPartSteps = kStepsPerTile / static_cast<int>(kCodeParts);

// R rows times the codes of a tile, added to their sums [R][32]. kStream: the tile comes from
// memory.
template <typename P, bool kStream, int R>
__attribute__((always_inline)) inline void add_tile_by_groups(const CodePanel<P>& panel,
                                                              int64_t tile,
                                                              const typename P::Operand* input,
                                                              int32_t* sums) {
  static_assert(P::kOperandsPerStep == 1);
  typename P::Operand starts[kCodeParts][R];
  for (int part = 0; part < kCodeParts; ++part) {
    P::template group_starts<R>(input + part * kPartSteps * R, starts[part]);
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    for (int part = 0; part < kCodeParts; ++part) {
      const CodePlace place = panel.at(tile * kCodeParts + part, half);
      const typename P::Operand* operand = input + part * kPartSteps * R;
      typename P::GroupSums acc[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) acc[r] = P::begin_group(starts[part][r]);
#pragma GCC unroll 4
      for (int64_t offset = 0; offset < kCodeBytes; offset += 64) {
        typename P::Weights even, odd;
        if constexpr (kStream) prefetch_line(place.codes + offset + kStreamBytes);
        P::split(place.codes + offset, even, odd);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) acc[r] = P::add_codes(acc[r], even, operand[r]);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) acc[r] = P::add_codes(acc[r], odd, operand[R + r]);
        operand += 2 * R;
      }
      const typename P::Multipliers by = P::load_multipliers(place.multipliers);
      int32_t* to = sums + half * kTileColumns;
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r, to += kPanelColumns) {
        P::end_group(P::Sum::load(to), acc[r], by).store(to);
      }
    }
  }
}

template <typename P, bool kStream, int R = P::kRows>
inline void multiply_by_groups(int rows, const CodePanel<P>& panel, int64_t first_tile,
                               int64_t num_tiles, const typename P::Operand* input, int32_t* sums) {
  if constexpr (R > 1) {
    if (rows < R) {
      multiply_by_groups<P, kStream, R - 1>(rows, panel, first_tile, num_tiles, input, sums);
      return;
    }
  }
  for (int64_t tile = first_tile; tile < first_tile + num_tiles; ++tile) {
    add_tile_by_groups<P, kStream, R>(panel, tile, input, sums);
    input += kStepsPerTile * R;
  }
}

// A block's rows times an int4 panel.
template <typename P>
inline void multiply_code_panel(const LinearArgs& args, const LinearBlock& block, int64_t panel,
                                int32_t* sums) {
  __builtin_memset(sums, 0, static_cast<size_t>(block.num_rows * kPanelColumns) * sizeof(int32_t));
  const int64_t pass = block.num_rows <= P::kRows ? args.depth_tiles : kPassTiles;
  const CodePanel<P> codes(args, panel);
  for (int64_t t = 0; t < args.depth_tiles; t += pass) {
    const int64_t depth = args.depth_tiles - t < pass ? args.depth_tiles - t : pass;
    for_each_row_group<P>(args, block, t,
                          [&](int64_t r, int rows, const typename P::Operand* input) {
                            auto* to = sums + r * kPanelColumns;
                            if (r == 0) {
                              multiply_by_groups<P, true>(rows, codes, t, depth, input, to);
                            } else {
                              multiply_by_groups<P, false>(rows, codes, t, depth, input, to);
                            }
                          });
  }
}

}  // namespace sluice::kernels::cpu::simd
