#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/lanes.h"
#include "kernels/cpu/simd/math.h"

// What follows the sums of a linear layer: bias, activation, residual and rounding.
namespace sluice::kernels::cpu::simd {

// Rows of 32 finished sums.
template <typename V>
struct FloatSums {
  const float* sums;

  V at(int64_t row, int column) const { return V::load(sums + row * kPanelColumns + column); }
};

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

// Sixteen columns at a time.
template <typename V, Activation kActivation, typename T, typename Out, typename Sums>
inline void finish_rows(const Destination<T, Out>& to, const Sums& sums) {
  for (int c = 0; c < to.columns; c += 16) {
    const int lanes = to.columns - c < 16 ? to.columns - c : 16;
    const V bias = to.bias == nullptr ? V::zero() : load_lanes<V>(to.bias + c, lanes);
    const bool has_bias = to.bias != nullptr;
    for (int64_t r = 0; r < to.rows; ++r) {
      V y = sums.at(r, c);
      if (has_bias) y = y + bias;
      y = activate<V, kActivation>(y);
      if (to.residual != nullptr) y = y + load_lanes<V>(to.residual + r * to.stride + c, lanes);
      store_lanes(y, to.output + r * to.stride + c, lanes);
    }
  }
}

template <typename V, typename T, typename Sums>
inline void finish(const LinearArgs& args, const LinearBlock& block, int64_t panel,
                   const Sums& sums) {
  const int64_t column = panel * kPanelColumns;
  const int64_t left = args.columns - column;
  const int64_t offset = block.first_row * args.columns + column;
  Destination<T, T> to;
  to.bias = args.bias == nullptr ? nullptr : static_cast<const T*>(args.bias) + column;
  to.residual = args.residual == nullptr ? nullptr : static_cast<const T*>(args.residual) + offset;
  to.output = static_cast<T*>(args.output) + offset;
  to.stride = args.columns;
  to.rows = block.num_rows;
  to.columns = static_cast<int>(left < kPanelColumns ? left : kPanelColumns);
  if (args.float_output) {
    float* output = static_cast<float*>(args.output) + offset;
    const Destination<T, float> wide{to.bias, to.residual, output, to.stride, to.rows, to.columns};
    return finish_rows<V, Activation::kNone>(wide, sums);
  }
  switch (args.activation) {
    case Activation::kNone:
      return finish_rows<V, Activation::kNone>(to, sums);
    case Activation::kGeluTanh:
      return finish_rows<V, Activation::kGeluTanh>(to, sums);
    case Activation::kGelu:
      return finish_rows<V, Activation::kGelu>(to, sums);
    case Activation::kSilu:
      return finish_rows<V, Activation::kSilu>(to, sums);
    case Activation::kRelu:
      return finish_rows<V, Activation::kRelu>(to, sums);
  }
}

}  // namespace sluice::kernels::cpu::simd
