#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/lanes.h"
#include "kernels/cpu/simd/math.h"

// What follows the sums of a linear layer: bias, activation, residual and rounding.
namespace sluice::kernels::cpu::simd {

// Rows of 32 finished sums. Column<V> is what a row needs of sixteen columns beside its sums.
template <typename V>
struct FloatSums {
  const float* sums;

  struct Column {};
  Column column(int /*column*/) const { return {}; }
  V at(int64_t row, int column, Column /*of*/) const {
    return V::load(sums + row * kPanelColumns + column);
  }
};

// Where a panel's results go.
template <typename T, typename Out>
struct Destination {
  const T* bias;      // of the panel's first column, or nullptr
  const T* residual;  // of the block's first row there, or nullptr
  Out* output;        // of the block's first row there
  int64_t stride;     // between rows, in elements
  int64_t rows;
  int columns;              // 1 to 32
  bool is_passing = false;  // lines of Out are whole and aligned, and leave the caches alone
};

// Sixteen columns of all rows of a panel: what does not depend on the row is loaded once.
template <typename V, Activation kActivation, typename T, typename Out, typename Sums>
struct ColumnFinish {
  const Destination<T, Out>& to;
  const Sums& sums;
  int column;
  int lanes;
  typename Sums::Column of;
  V bias;

  ColumnFinish(const Destination<T, Out>& destination, const Sums& row_sums, int first)
      : to(destination),
        sums(row_sums),
        column(first),
        lanes(destination.columns - first < 16 ? destination.columns - first : 16),
        of(row_sums.column(first)),
        bias(V::zero()) {
    if (to.bias != nullptr) bias = load_lanes<V>(to.bias + column, lanes);
  }

  void row(int64_t row) const {
    V y = sums.at(row, column, of);
    if (to.bias != nullptr) y = y + bias;
    y = activate<V, kActivation>(y);
    const int64_t place = row * to.stride + column;
    if (to.residual != nullptr) y = y + load_lanes<V>(to.residual + place, lanes);
    if constexpr (__is_same(Out, float)) {
      if (to.is_passing) return y.stream(to.output + place);
    }
    store_lanes(y, to.output + place, lanes);
  }
};

// Row by row, so that a line of the output is written once.
template <typename V, Activation kActivation, typename T, typename Out, typename Sums>
inline void finish_rows(const Destination<T, Out>& to, const Sums& sums) {
  const ColumnFinish<V, kActivation, T, Out, Sums> left(to, sums, 0);
  if (to.columns <= 16) {
    for (int64_t r = 0; r < to.rows; ++r) left.row(r);
    return;
  }
  const ColumnFinish<V, kActivation, T, Out, Sums> right(to, sums, 16);
  for (int64_t r = 0; r < to.rows; ++r) {
    left.row(r);
    right.row(r);
  }
}

// Logits are megabytes that nobody reads before all of them are there: written around the caches,
// they spare the weights' way through them. `fence_logits` makes them visible to other threads.
static inline bool passes_caches(const LinearArgs& args) {
  return args.float_output && args.columns % 16 == 0 &&
         reinterpret_cast<uintptr_t>(args.output) % 64 == 0;
}
static inline void fence_logits(const LinearArgs& args) {
  if (args.float_output) _mm_sfence();
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
    const Destination<T, float> wide{to.bias,    to.residual,        output, to.stride, to.rows,
                                     to.columns, passes_caches(args)};
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
