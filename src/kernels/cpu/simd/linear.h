#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/lanes.h"
#include "kernels/cpu/simd/math.h"

// Packed linear over a vector type V. A product P says how an element of T meets an input.
//
// An output element is one chain of products in the order of K, started at zero, kept in a register
// or (exactly) in float32 scratch between two passes over parts of K. How rows and columns are
// grouped changes which chains run side by side, and no chain's own order.
namespace sluice::kernels::cpu::simd {

inline constexpr int kPairsPerTile = kTileDepth / 2;

// Float32 fused multiply-adds of widened numbers: two operands a pair of K.
template <typename V, typename T>
struct WideProduct {
  using Element = T;
  using Operand = float;
  static constexpr int kOperandsPerPair = 2;
  struct Weights {
    V even, odd;
  };

  static Weights load(const T* tile) {
    Weights weights;
    V::load_pair(tile, weights.even, weights.odd);
    return weights;
  }
  static V step(V sum, const Weights& weights, const float* operand) {
    sum = V::fma(V::set(operand[0]), weights.even, sum);
    return V::fma(V::set(operand[V::kInputRows]), weights.odd, sum);
  }
  static void prepare(const T* pair, int count, float* operand) {
    operand[0] = widen(pair[0]);
    operand[V::kInputRows] = count > 1 ? widen(pair[1]) : 0.0f;
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

// The loops over R and C are unrolled whole, so that the sums live in registers.
// Input [K / 2][operands][kInputRows], sums [R][32].
template <typename V, typename P, int R, int C>
struct MicroKernel {
  static void run(const typename P::Element* tiles, const typename P::Operand* input,
                  int64_t depth_tiles, float* sums, bool resume) {
    constexpr int kStride = P::kOperandsPerPair * V::kInputRows;
    V acc[R][C];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) {
        acc[r][c] = resume ? V::load(sums + r * kPanelColumns + c * 16) : V::zero();
      }
    }
    for (int64_t t = 0; t < depth_tiles; ++t) {
      for (int pair = 0; pair < kPairsPerTile; ++pair) {
        typename P::Weights weights[C];
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) weights[c] = P::load(tiles + c * kTileElements + pair * 32);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
          for (int c = 0; c < C; ++c) acc[r][c] = P::step(acc[r][c], weights[c], input + r);
        }
        input += kStride;
      }
      tiles += 2 * kTileElements;
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) acc[r][c].store(sums + r * kPanelColumns + c * 16);
    }
  }
};

template <typename V, typename P, int R = V::kInputRows>
inline void multiply_rows(int rows, const typename P::Element* tiles,
                          const typename P::Operand* input, int64_t depth_tiles, float* sums,
                          bool resume) {
  if constexpr (R > 1) {
    if (rows < R) {
      multiply_rows<V, P, R - 1>(rows, tiles, input, depth_tiles, sums, resume);
      return;
    }
  }
  constexpr int kColumns = V::kColumnGroups;
  for (int c = 0; c < 2; c += kColumns) {
    MicroKernel<V, P, R, kColumns>::run(tiles + c * kTileElements, input, depth_tiles,
                                        sums + c * 16, resume);
  }
}

// Where a panel's results go.
template <typename T, typename Out>
struct Destination {
  const T* bias;      // of the panel's first column, or nullptr
  const T* residual;  // of the block's first row there, or nullptr
  Out* output;        // of the block's first row there
  int64_t stride;     // between rows, in elements
  int64_t rows;
  int columns;  // 1 to 32
};

// Bias, activation, residual and rounding of rows of 32 sums, sixteen columns at a time.
template <typename V, typename T, typename Out, Activation kActivation>
inline void finish_rows(const Destination<T, Out>& to, const float* sums) {
  for (int c = 0; c < to.columns; c += 16) {
    const int lanes = to.columns - c < 16 ? to.columns - c : 16;
    const V bias = to.bias == nullptr ? V::zero() : load_lanes<V>(to.bias + c, lanes);
    const bool has_bias = to.bias != nullptr;
    for (int64_t r = 0; r < to.rows; ++r) {
      V y = V::load(sums + r * kPanelColumns + c);
      if (has_bias) y = y + bias;
      y = activate<V, kActivation>(y);
      if (to.residual != nullptr) y = y + load_lanes<V>(to.residual + r * to.stride + c, lanes);
      store_lanes(y, to.output + r * to.stride + c, lanes);
    }
  }
}

template <typename V, typename T>
inline void finish(const LinearArgs& args, const float* sums, int64_t first_row, int64_t rows,
                   int64_t panel) {
  const int64_t column = panel * kPanelColumns;
  const int64_t left = args.columns - column;
  const int64_t offset = first_row * args.columns + column;
  Destination<T, T> to;
  to.bias = args.bias == nullptr ? nullptr : static_cast<const T*>(args.bias) + column;
  to.residual = args.residual == nullptr ? nullptr : static_cast<const T*>(args.residual) + offset;
  to.output = static_cast<T*>(args.output) + offset;
  to.stride = args.columns;
  to.rows = rows;
  to.columns = static_cast<int>(left < kPanelColumns ? left : kPanelColumns);
  if (args.float_output) {
    float* output = static_cast<float*>(args.output) + offset;
    const Destination<T, float> wide{to.bias, to.residual, output, to.stride, rows, to.columns};
    return finish_rows<V, T, float, Activation::kNone>(wide, sums);
  }
  switch (args.activation) {
    case Activation::kNone:
      return finish_rows<V, T, T, Activation::kNone>(to, sums);
    case Activation::kGeluTanh:
      return finish_rows<V, T, T, Activation::kGeluTanh>(to, sums);
    case Activation::kGelu:
      return finish_rows<V, T, T, Activation::kGelu>(to, sums);
    case Activation::kSilu:
      return finish_rows<V, T, T, Activation::kSilu>(to, sums);
    case Activation::kRelu:
      return finish_rows<V, T, T, Activation::kRelu>(to, sums);
  }
}

// Depth of one pass in tiles: where a block has more rows than one micro-kernel takes, a pass's
// part of the panel (16 KiB) stays in the first-level cache while all rows meet it.
template <typename T>
consteval int64_t pass_tiles() {
  return 16384 / (2 * kTileElements * static_cast<int64_t>(sizeof(T)));
}

template <typename V, typename P>
inline void linear(const LinearArgs& args, const LinearBlock& block, float* scratch) {
  using T = typename P::Element;
  constexpr int64_t kRows = V::kInputRows;
  constexpr int64_t kOperandsPerTile = kPairsPerTile * P::kOperandsPerPair * kRows;
  const int64_t row_stride = args.depth_tiles * kOperandsPerTile;
  const auto* input =
      static_cast<const typename P::Operand*>(args.input) + block.first_row / kRows * row_stride;
  const int64_t pass = block.num_rows <= kRows ? args.depth_tiles : pass_tiles<T>();
  for (int64_t p = 0; p < block.num_panels; ++p) {
    const int64_t panel = block.first_panel + p;
    const T* tiles =
        static_cast<const T*>(args.panels) + panel * args.depth_tiles * 2 * kTileElements;
    for (int64_t t = 0; t < args.depth_tiles; t += pass) {
      const int64_t depth = args.depth_tiles - t < pass ? args.depth_tiles - t : pass;
      for (int64_t r = 0; r < block.num_rows; r += kRows) {
        const int64_t left = block.num_rows - r;
        multiply_rows<V, P>(static_cast<int>(left < kRows ? left : kRows),
                            tiles + t * 2 * kTileElements,
                            input + r / kRows * row_stride + t * kOperandsPerTile, depth,
                            scratch + r * kPanelColumns, t > 0);
      }
    }
    finish<V, T>(args, scratch, block.first_row, block.num_rows, panel);
  }
}

// Rows of x, kInputRows at a time, in the micro-kernel's order. Rows past the last are not written:
// no micro-kernel reads them.
template <typename V, typename P>
inline void prepare_input(const InputArgs& args) {
  using T = typename P::Element;
  constexpr int64_t kRows = V::kInputRows;
  const int64_t depth_tiles = (args.depth + kTileDepth - 1) / kTileDepth;
  const int64_t row_stride = depth_tiles * kPairsPerTile * P::kOperandsPerPair * kRows;
  const int64_t first = args.first_block * kInputBlockRows;
  const int64_t end = first + args.num_blocks * kInputBlockRows;
  for (int64_t row = first; row < end && row < args.rows; ++row) {
    const T* x = static_cast<const T*>(args.x) + row * args.depth;
    auto* operand =
        static_cast<typename P::Operand*>(args.output) + row / kRows * row_stride + row % kRows;
    for (int64_t k = 0; k < depth_tiles * kTileDepth; k += 2) {
      const T nothing[2] = {};
      const int64_t left = args.depth - k;
      P::prepare(left > 0 ? x + k : nothing, left > 1 ? 2 : 1, operand);
      operand += P::kOperandsPerPair * kRows;
    }
  }
}

template <typename V, typename P>
inline int64_t input_bytes(int64_t rows, int64_t depth_tiles) {
  constexpr int64_t kRows = V::kInputRows;
  const int64_t row_blocks = (rows + kRows - 1) / kRows;
  return row_blocks * kRows * depth_tiles * kPairsPerTile * P::kOperandsPerPair *
         static_cast<int64_t>(sizeof(typename P::Operand));
}

}  // namespace sluice::kernels::cpu::simd
