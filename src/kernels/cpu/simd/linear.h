#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/finish.h"
#include "kernels/cpu/simd/prefetch.h"
#include "kernels/cpu/simd/transpose.h"

// Packed linear over a vector type V. A product P says how an element of T meets an input.
//
// An output element is one chain of products in the order of K, started at zero, kept in a register
// or (exactly) in float32 scratch between two passes over parts of K. How rows and columns are
// grouped changes which chains run side by side, and no chain's own order.
namespace sluice::kernels::cpu::simd {

// Steps of a tile: each takes the operands of 2 (int8: 4) elements of K.
inline constexpr int kStepsPerTile = 16;

// Float32 fused multiply-adds of widened numbers: two operands a pair of K.
template <typename V, typename T>
struct WideProduct {
  using Element = T;
  using Operand = float;
  using Sum = V;
  using SumElement = float;
  static constexpr int kRows = V::kWideRows;
  static constexpr int kSums = V::kWideSums;
  static constexpr bool kSharesOperands = V::kSharesOperands;
  static constexpr bool kCopiesPairs = false;
  static constexpr int kOperandsPerStep = 2;
  static constexpr int kStepElements = 2 * kTileColumns;
  struct Weights {
    V even, odd;
  };

  static Weights load(const T* tile) {
    Weights weights;
    V::load_pair(tile, weights.even, weights.odd);
    return weights;
  }
  static V step(V sum, const Weights& weights, const float* operand, int rows) {
    sum = V::fma(V::set(operand[0]), weights.even, sum);
    return V::fma(V::set(operand[rows]), weights.odd, sum);
  }
  static void prepare(const T* pair, int count, float* operand, int64_t rows) {
    operand[0] = widen(pair[0]);
    operand[rows] = count > 1 ? widen(pair[1]) : 0.0f;
  }

 private:
  static float widen(float x) { return x; }
  static float widen(Half x) { return _cvtsh_ss(x.bits); }
  static float widen(Brain x) {
    const uint32_t bits = uint32_t{x.bits} << 16;
    float wide;
    __builtin_memcpy(&wide, &bits, sizeof(wide));
    return wide;
  }
};

// A weight that few rows meet comes from memory as one stream. An Intel Xeon's own prefetching
// keeps up with two thirds of the bandwidth; this distance, tried from 1 to 8 KiB, with nearly all.
// (An AMD EPYC's needs no help.)
inline constexpr int64_t kStreamBytes = 2048;

// Rows of a micro-kernel times one or two groups of sixteen columns. The loops over R are unrolled
// whole, so that the sums live in registers.
// Input [steps][operands][R], sums [R][32]. With kStream tiles come from memory and are read in its
// order, since taking two of them by turns halves what a core gets from it; a line from `ahead` on
// is prefetched for each. Without, both columns' tiles meet an operand once it is loaded, if there
// are registers for that: a core loads no more of them than it multiplies, and needs that for the
// tiles too.
template <typename P, int R, int C, bool kStream>
struct MicroKernel {
  using Sum = typename P::Sum;
  static constexpr int kStride = P::kOperandsPerStep * R;
  static constexpr int kTile = kStepsPerTile * P::kStepElements;
  static constexpr int64_t kStepBytes = P::kStepElements * sizeof(typename P::Element);

  static void run(const typename P::Element* tiles, const typename P::Operand* input,
                  int64_t depth_tiles, typename P::SumElement* sums, bool resume,
                  const char* ahead) {
    Sum acc[C][R];
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        acc[c][r] = resume ? Sum::load(sums + r * kPanelColumns + c * 16) : Sum::zero();
      }
    }
    for (int64_t t = 0; t < depth_tiles; ++t) {
      if constexpr (!kStream && P::kSharesOperands) {
        add_columns(tiles, input, acc);
      } else {
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) {
          add_tile(tiles + c * kTile, input, acc[c], ahead);
          if constexpr (kStream) ahead += kStepsPerTile * kStepBytes;
        }
      }
      input += kStepsPerTile * kStride;
      tiles += 2 * kTile;
    }
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) acc[c][r].store(sums + r * kPanelColumns + c * 16);
    }
  }

 private:
  __attribute__((always_inline)) static void add_tile(const typename P::Element* tile,
                                                      const typename P::Operand* input, Sum* acc,
                                                      const char* ahead) {
#pragma GCC unroll 4
    for (int step = 0; step < kStepsPerTile; ++step) {
      if constexpr (kStream) {
        for (int64_t i = 0; i < kStepBytes; i += 64) prefetch_line(ahead + step * kStepBytes + i);
      }
      const typename P::Weights weights = P::load(tile);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) acc[r] = P::step(acc[r], weights, input + r, R);
      tile += P::kStepElements;
      input += kStride;
    }
  }

  __attribute__((always_inline)) static void add_columns(const typename P::Element* tiles,
                                                         const typename P::Operand* input,
                                                         Sum (*acc)[R]) {
#pragma GCC unroll 4
    for (int step = 0; step < kStepsPerTile; ++step) {
      typename P::Weights weights[C];
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) weights[c] = P::load(tiles + c * kTile);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) acc[c][r] = P::step(acc[c][r], weights[c], input + r, R);
      }
      tiles += P::kStepElements;
      input += kStride;
    }
  }
};

// Where the sums of half a panel's columns fill the registers, the halves take turns of this many
// tiles, so that both are read nearly in the order of memory, and are prefetched in that order.
inline constexpr int64_t kTurnTiles = 4;

template <typename P, bool kStream, int R = P::kRows>
inline void multiply_rows(int rows, const typename P::Element* tiles,
                          const typename P::Operand* input, int64_t depth_tiles,
                          typename P::SumElement* sums, bool resume) {
  if constexpr (R > 1) {
    if (rows < R) {
      multiply_rows<P, kStream, R - 1>(rows, tiles, input, depth_tiles, sums, resume);
      return;
    }
  }
  constexpr int kTile = kStepsPerTile * P::kStepElements;
  constexpr int kInputTile = kStepsPerTile * P::kOperandsPerStep * R;
  if constexpr (2 * R <= P::kSums) {
    const char* ahead = reinterpret_cast<const char*>(tiles) + kStreamBytes;
    MicroKernel<P, R, 2, kStream>::run(tiles, input, depth_tiles, sums, resume, ahead);
  } else {
    const int64_t turn = kStream ? kTurnTiles : depth_tiles;
    for (int64_t t = 0; t < depth_tiles; t += turn) {
      const int64_t depth = depth_tiles - t < turn ? depth_tiles - t : turn;
      const auto* ahead = reinterpret_cast<const char*>(tiles + 2 * kTurnTiles * kTile);
      for (int c = 0; c < 2; ++c) {
        MicroKernel<P, R, 1, kStream>::run(tiles + c * kTile, input, depth, sums + c * 16,
                                           resume || t > 0, ahead);
        ahead += depth * kTile * static_cast<int64_t>(sizeof(typename P::Element));
      }
      tiles += 2 * depth * kTile;
      input += depth * kInputTile;
    }
  }
}

// Operands of a row in the prepared input.
template <typename P>
inline int64_t row_operands(int64_t depth_tiles) {
  return depth_tiles * kStepsPerTile * P::kOperandsPerStep;
}

// A block's rows, P::kRows at a time: calls use(first row in the block, rows, their input from
// first_tile on).
template <typename P, typename Use>
inline void for_each_row_group(const LinearArgs& args, const LinearBlock& block, int64_t first_tile,
                               Use use) {
  const auto* input = static_cast<const typename P::Operand*>(args.input);
  for (int64_t r = 0; r < block.num_rows; r += P::kRows) {
    const int64_t left = block.num_rows - r;
    const int rows = static_cast<int>(left < P::kRows ? left : P::kRows);
    use(r, rows,
        input + (block.first_row + r) * row_operands<P>(args.depth_tiles) +
            rows * row_operands<P>(first_tile));
  }
}

// A block's rows times a part of a panel. The first of them bring the part into the first-level
// cache, where an int4 one lies already, unpacked.
template <typename P>
inline void multiply_block(const LinearArgs& args, const LinearBlock& block, int64_t first_tile,
                           int64_t num_tiles, const typename P::Element* tiles,
                           typename P::SumElement* sums) {
  const bool resume = first_tile > 0;
  for_each_row_group<P>(args, block, first_tile,
                        [&](int64_t r, int rows, const typename P::Operand* input) {
                          auto* to = sums + r * kPanelColumns;
                          if (r == 0 && args.format != WeightFormat::kInt4) {
                            multiply_rows<P, true>(rows, tiles, input, num_tiles, to, resume);
                          } else {
                            multiply_rows<P, false>(rows, tiles, input, num_tiles, to, resume);
                          }
                        });
}

// Depth of one pass in tiles: where a block has more rows than one micro-kernel takes, a pass's
// part of the panel (16 KiB) stays in the first-level cache while all rows meet it.
template <typename T>
consteval int64_t pass_tiles() {
  return 16384 / (2 * kTileElements * static_cast<int64_t>(sizeof(T)));
}

// The same for bytes; int4 is unpacked for it, or read as it is.
inline constexpr int64_t kPassTiles = 8;

template <typename V, typename P>
inline void linear(const LinearArgs& args, const LinearBlock& block, void* scratch) {
  using T = typename P::Element;
  auto* sums = static_cast<float*>(scratch);
  const int64_t pass = block.num_rows <= P::kRows ? args.depth_tiles : pass_tiles<T>();
  for (int64_t panel = block.first_panel; panel < block.first_panel + block.num_panels; ++panel) {
    const T* tiles =
        static_cast<const T*>(args.panels) + panel * args.depth_tiles * 2 * kTileElements;
    for (int64_t t = 0; t < args.depth_tiles; t += pass) {
      const int64_t depth = args.depth_tiles - t < pass ? args.depth_tiles - t : pass;
      multiply_block<P>(args, block, t, depth, tiles + t * 2 * kTileElements, sums);
    }
    finish<V, T>(args, block, panel, FloatSums<V>{sums});
  }
  fence_logits(args);
}

// Rows of the prepared input that one micro-kernel takes: P::kRows, or those that are left. They
// lie side by side, operand after operand.
template <typename P>
struct PreparedRows {
  typename P::Operand* operands;  // [K / step][operands][count]
  int64_t first;
  int64_t count;

  static_assert(kPreparedRows % P::kRows == 0 && kInputBlockRows % kPreparedRows == 0);

  PreparedRows(const InputArgs& args, int64_t first_row, int64_t depth_tiles)
      : operands(static_cast<typename P::Operand*>(args.output) +
                 first_row * row_operands<P>(depth_tiles)),
        first(first_row),
        count(args.rows - first_row < P::kRows ? args.rows - first_row : P::kRows) {}
};

// Sixteen operands of each row, given as words side by side: output[count i + r] = words[r][i].
static inline void interleave_words(const uint32_t* const* words, int64_t count, uint32_t* output) {
  if (count == 16) {
    for (int half = 0; half < 16; half += 8) {
      transpose_words(words + half, 0, output + half);
      transpose_words(words + half, 8, output + 128 + half);
    }
    return;
  }
  for (int64_t r = 0; r < count; ++r) {
    uint32_t row[16];
    __builtin_memcpy(row, words[r], sizeof(row));  // may lie at any even address
    for (int64_t i = 0; i < 16; ++i) output[i * count + r] = row[i];
  }
}

// Row `r` of the prepared rows.
template <typename P>
inline void prepare_row(const InputArgs& args, const PreparedRows<P>& rows, int64_t r,
                        int64_t first_depth) {
  using T = typename P::Element;
  const T* x = static_cast<const T*>(args.x) + (rows.first + r) * args.depth;
  auto* operand = rows.operands + first_depth / 2 * P::kOperandsPerStep * rows.count + r;
  const int64_t depth = (args.depth + kTileDepth - 1) / kTileDepth * kTileDepth;
  for (int64_t k = first_depth; k < depth; k += 2) {
    const T nothing[2] = {};
    const int64_t left = args.depth - k;
    P::prepare(left > 0 ? x + k : nothing, left > 1 ? 2 : 1, operand, rows.count);
    operand += P::kOperandsPerStep * rows.count;
  }
}

// Rows of x in the micro-kernel's order.
template <typename P>
inline void prepare_input(const InputArgs& args) {
  const int64_t depth_tiles = (args.depth + kTileDepth - 1) / kTileDepth;
  for (int64_t first = args.first_row; first < args.end_row; first += P::kRows) {
    const PreparedRows<P> rows(args, first, depth_tiles);
    int64_t depth = 0;
    if constexpr (P::kCopiesPairs) {
      const auto* x = static_cast<const typename P::Element*>(args.x) + first * args.depth;
      for (; depth + kTileDepth <= args.depth; depth += kTileDepth) {
        const uint32_t* words[P::kRows];
        for (int64_t r = 0; r < rows.count; ++r) {
          words[r] = reinterpret_cast<const uint32_t*>(x + r * args.depth + depth);
        }
        interleave_words(words, rows.count, rows.operands + depth / 2 * rows.count);
      }
    }
    for (int64_t r = 0; r < rows.count; ++r) prepare_row(args, rows, r, depth);
  }
}

// Rows of a block at most: their sums are kept while a panel's parts meet them.
inline constexpr int64_t kMaxRowBlock = 2 * kInputBlockRows;
inline constexpr int64_t kSumBytes = kMaxRowBlock * kPanelColumns * 4;

template <typename P>
inline int64_t input_bytes(const InputArgs& args) {
  const int64_t depth = tile_depth(args.format);
  const int64_t depth_tiles = (args.depth + depth - 1) / depth;
  return args.rows * row_operands<P>(depth_tiles) *
         static_cast<int64_t>(sizeof(typename P::Operand));
}

}  // namespace sluice::kernels::cpu::simd
