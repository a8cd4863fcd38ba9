#pragma once

#include "kernels/cpu/simd/attention.h"
#include "kernels/cpu/simd/byte_linear.h"
#include "kernels/cpu/simd/linear.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/cpu/simd/write_kv.h"

// Makes a KernelTable from a vector type V and its products for bfloat16 and for int8.
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

// Calls visit(number of the activations' type, number of the cache's type).
template <typename V, typename Visit>
inline void visit_types(const AttentionArgs& args, Visit visit) {
  const auto with = [&](auto number) {
    args.int8_cache ? visit(number, int8_t{}) : visit(number, number);
  };
  switch (args.type) {
    case DType::kF32:
      return with(float{});
    case DType::kF16:
      return with(Half{});
    case DType::kBF16:
      return with(Brain{});
  }
}

template <typename V>
inline void write_kv_any(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                         int64_t num_rows) {
  visit_types<V>(args, [&](auto number, auto cached) {
    using C = decltype(cached);
    write_kv<V, decltype(number), C, PlainLayout<C>>(args, sequence, first_row, num_rows);
  });
}

template <typename V>
inline void attend_any(const AttentionArgs& args, const AttentionBlock& block) {
  visit_types<V>(args, [&](auto number, auto cached) {
    attend<V, decltype(cached), decltype(number)>(args, block);
  });
}

template <typename V>
inline void merge_splits_any(const AttentionArgs& args, const AttentionBlock& block) {
  visit_types<V>(args, [&](auto number, auto) { merge_splits<V, decltype(number)>(args, block); });
}

template <typename V, typename BrainProduct, typename ByteProduct>
inline int64_t input_bytes_any(const InputArgs& args) {
  if (args.format != WeightFormat::kPlain) return input_bytes<ByteProduct>(args);
  return args.type == DType::kBF16 ? input_bytes<BrainProduct>(args)
                                   : input_bytes<WideProduct<V, float>>(args);
}

template <typename V, typename BrainProduct, typename ByteProduct>
inline void prepare_input_any(const InputArgs& args) {
  const bool is_plain = args.format == WeightFormat::kPlain;
  switch (args.type) {
    case DType::kF32:
      return is_plain ? prepare_input<WideProduct<V, float>>(args)
                      : quantize_input<V, ByteProduct, float>(args);
    case DType::kF16:
      return is_plain ? prepare_input<WideProduct<V, Half>>(args)
                      : quantize_input<V, ByteProduct, Half>(args);
    case DType::kBF16:
      return is_plain ? prepare_input<BrainProduct>(args)
                      : quantize_input<V, ByteProduct, Brain>(args);
  }
}

// Prepared rows that stay in a core's second-level cache while panels meet them.
template <typename V, typename BrainProduct, typename ByteProduct>
inline LinearPlan plan_linear_any(const InputArgs& args) {
  constexpr int64_t kBlockBytes = 786432;
  InputArgs part = args;
  part.rows = kInputBlockRows;
  const bool is_wide = input_bytes_any<V, BrainProduct, ByteProduct>(part) * 2 > kBlockBytes;
  LinearPlan plan;
  plan.row_block = is_wide ? kInputBlockRows : kMaxRowBlock;
  plan.scratch_bytes = kSumBytes + kUnpackedBytes;
  return plan;
}

template <typename V, typename BrainProduct, typename ByteProduct>
inline void linear_any(const LinearArgs& args, const LinearBlock& block, void* scratch) {
  const bool is_plain = args.format == WeightFormat::kPlain;
  switch (args.type) {
    case DType::kF32:
      return is_plain ? linear<V, WideProduct<V, float>>(args, block, scratch)
                      : linear_bytes<V, ByteProduct, float>(args, block, scratch);
    case DType::kF16:
      return is_plain ? linear<V, WideProduct<V, Half>>(args, block, scratch)
                      : linear_bytes<V, ByteProduct, Half>(args, block, scratch);
    case DType::kBF16:
      return is_plain ? linear<V, BrainProduct>(args, block, scratch)
                      : linear_bytes<V, ByteProduct, Brain>(args, block, scratch);
  }
}

template <typename V, typename BrainProduct, typename ByteProduct>
constexpr KernelTable make_table() {
  return {
      .input_bytes = input_bytes_any<V, BrainProduct, ByteProduct>,
      .prepare_input = prepare_input_any<V, BrainProduct, ByteProduct>,
      .plan_linear = plan_linear_any<V, BrainProduct, ByteProduct>,
      .linear = linear_any<V, BrainProduct, ByteProduct>,
      .rms_norm = rms_norm<V>,
      .layer_norm = layer_norm<V>,
      .swiglu = swiglu<V>,
      .write_kv = write_kv_any<V>,
      .attend = attend_any<V>,
      .merge_splits = merge_splits_any<V>,
  };
}

}  // namespace sluice::kernels::cpu::simd
