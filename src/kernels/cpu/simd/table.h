#pragma once

#include "kernels/cpu/simd/attention.h"
#include "kernels/cpu/simd/linear.h"
#include "kernels/cpu/simd/rows.h"

// Makes a KernelTable from a vector type V and its product for bfloat16.
namespace sluice::kernels::cpu::simd {

template <typename V>
inline void rms_norm(const NormArgs& args, int64_t first_row, int64_t num_rows) {
  for (int64_t row = first_row; row < first_row + num_rows; ++row) {
    switch (args.type) {
      case DType::kF32:
        rms_norm_row<V, float>(args, row);
        break;
      case DType::kF16:
        rms_norm_row<V, Half>(args, row);
        break;
      case DType::kBF16:
        rms_norm_row<V, Brain>(args, row);
        break;
    }
  }
}

template <typename V>
inline void layer_norm(const NormArgs& args, int64_t first_row, int64_t num_rows) {
  for (int64_t row = first_row; row < first_row + num_rows; ++row) {
    switch (args.type) {
      case DType::kF32:
        layer_norm_row<V, float>(args, row);
        break;
      case DType::kF16:
        layer_norm_row<V, Half>(args, row);
        break;
      case DType::kBF16:
        layer_norm_row<V, Brain>(args, row);
        break;
    }
  }
}

template <typename V>
inline void swiglu(const SwigluArgs& args, int64_t first_row, int64_t num_rows) {
  for (int64_t row = first_row; row < first_row + num_rows; ++row) {
    switch (args.type) {
      case DType::kF32:
        swiglu_row<V, float>(args, row);
        break;
      case DType::kF16:
        swiglu_row<V, Half>(args, row);
        break;
      case DType::kBF16:
        swiglu_row<V, Brain>(args, row);
        break;
    }
  }
}

template <typename V>
inline void write_kv_any(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                         int64_t num_rows) {
  switch (args.type) {
    case DType::kF32:
      return write_kv<V, float, PlainValues<float>>(args, sequence, first_row, num_rows);
    case DType::kF16:
      return write_kv<V, Half, PlainValues<Half>>(args, sequence, first_row, num_rows);
    case DType::kBF16:
      return write_kv<V, Brain, PlainValues<Brain>>(args, sequence, first_row, num_rows);
  }
}

template <typename V>
inline void attend_any(const AttentionArgs& args, const AttentionBlock& block) {
  switch (args.type) {
    case DType::kF32:
      return attend<V, float>(args, block);
    case DType::kF16:
      return attend<V, Half>(args, block);
    case DType::kBF16:
      return attend<V, Brain>(args, block);
  }
}

template <typename V, typename BrainProduct>
inline int64_t input_bytes_any(DType type, int64_t rows, int64_t depth_tiles) {
  return type == DType::kBF16 ? input_bytes<V, BrainProduct>(rows, depth_tiles)
                              : input_bytes<V, WideProduct<V, float>>(rows, depth_tiles);
}

template <typename V, typename BrainProduct>
inline void prepare_input_any(const InputArgs& args) {
  switch (args.type) {
    case DType::kF32:
      return prepare_input<V, WideProduct<V, float>>(args);
    case DType::kF16:
      return prepare_input<V, WideProduct<V, Half>>(args);
    case DType::kBF16:
      return prepare_input<V, BrainProduct>(args);
  }
}

template <typename V, typename BrainProduct>
inline void linear_any(const LinearArgs& args, const LinearBlock& block, float* scratch) {
  switch (args.type) {
    case DType::kF32:
      return linear<V, WideProduct<V, float>>(args, block, scratch);
    case DType::kF16:
      return linear<V, WideProduct<V, Half>>(args, block, scratch);
    case DType::kBF16:
      return linear<V, BrainProduct>(args, block, scratch);
  }
}

template <typename V, typename BrainProduct>
constexpr KernelTable make_table() {
  return {
      .input_bytes = input_bytes_any<V, BrainProduct>,
      .prepare_input = prepare_input_any<V, BrainProduct>,
      .linear = linear_any<V, BrainProduct>,
      .rms_norm = rms_norm<V>,
      .layer_norm = layer_norm<V>,
      .swiglu = swiglu<V>,
      .write_kv = write_kv_any<V>,
      .attend = attend_any<V>,
  };
}

}  // namespace sluice::kernels::cpu::simd
