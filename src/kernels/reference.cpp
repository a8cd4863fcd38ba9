#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/frexp.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/ldexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <torch/library.h>

#include <limits>
#include <tuple>
#include <vector>

#include "kernels/backends.h"
#include "kernels/checks.h"
#include "kernels/kv_int8.h"
#include "kernels/operators.h"

namespace sluice::kernels::reference {
namespace {

// The dtype of sums: float64 inputs keep their own, all others use float32.
at::Tensor widen(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

at::Tensor activate(const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kGeluTanh:
      return at::gelu(x, "tanh");
    case Activation::kGelu:
      return at::gelu(x, "none");
    case Activation::kSilu:
      return at::silu(x);
    case Activation::kRelu:
      return at::relu(x);
  }
  return x;
}

// Rotates the first D_rot numbers of each head.  x [T, heads, D] | table rows [T, 1, D_rot / 2, 2]
at::Tensor rotate(const at::Tensor& x, const at::Tensor& angles) {
  const int64_t half = angles.size(2);
  const at::Tensor cosine = angles.select(3, 0);
  const at::Tensor sine = angles.select(3, 1);
  const at::Tensor first = x.narrow(2, 0, half);
  const at::Tensor second = x.narrow(2, half, half);
  const at::Tensor rest = x.narrow(2, 2 * half, x.size(2) - 2 * half);
  return at::cat({first * cosine - second * sine, second * cosine + first * sine, rest}, 2);
}

// Slots of an int8 cache, [.., 2 D + 8]: the parts' int8 numbers, then their scales' bytes.
at::Tensor int8_slots(const at::Tensor& keys, const at::Tensor& values) {
  std::vector<at::Tensor> numbers, scales;
  for (const at::Tensor& x : {keys.to(at::kFloat), values.to(at::kFloat)}) {
    const at::Tensor largest = x.abs().amax(-1, true);
    const at::Tensor inverse = (127 / largest).masked_fill(largest < kSmallestQuantized, 0);
    numbers.push_back((x * inverse).round().to(at::kChar));
    scales.push_back((largest * kInt8Step).view(at::kChar));
  }
  return at::cat({numbers[0], numbers[1], scales[0], scales[1]}, -1);
}

// Slots of an fp8 cache, [.., 2 D + 2] (kv_float8.h).
at::Tensor float8_slots(const at::Tensor& keys, const at::Tensor& values) {
  std::vector<at::Tensor> numbers, scales;
  for (const at::Tensor& x : {keys.to(at::kFloat), values.to(at::kFloat)}) {
    const at::Tensor largest = x.abs().amax(-1, true);
    // largest / 2^e is in [1/2, 1), the number in [128, 256); 2^-126 is float32's smallest.
    const at::Tensor power = (std::get<1>(at::frexp(largest)) - 8).clamp_min(-126);
    const at::Tensor is_number = largest.isfinite();
    const at::Tensor scaled = at::ldexp(x, -power).masked_fill(is_number.logical_not(), 0);
    numbers.push_back(scaled.to(at::kFloat8_e4m3fn).view(at::kByte));
    scales.push_back((power + 127).masked_fill(is_number.logical_not(), 255).to(at::kByte));
  }
  return at::cat({numbers[0], numbers[1], scales[0], scales[1]}, -1);
}

// Keys and values [.., 2 D] of slots with scales.
at::Tensor dequantize_slots(const at::Tensor& slots, KvFormat format, int64_t head_size) {
  std::vector<at::Tensor> parts;
  for (int64_t part = 0; part < 2; ++part) {
    const at::Tensor numbers = slots.narrow(-1, part * head_size, head_size);
    if (format == KvFormat::kInt8) {
      const at::Tensor scale = slots.narrow(-1, 2 * head_size + 4 * part, 4).contiguous();
      parts.push_back(numbers.to(at::kFloat) * scale.view(at::kFloat));
    } else {
      const at::Tensor scale = slots.narrow(-1, 2 * head_size + part, 1).to(at::kInt);
      const at::Tensor values = numbers.contiguous().view(at::kFloat8_e4m3fn).to(at::kFloat);
      parts.push_back(at::ldexp(values, scale - 127)
                          .masked_fill(scale == 255, std::numeric_limits<float>::quiet_NaN()));
    }
  }
  return at::cat(parts, -1);
}

at::Tensor slots_of(const at::Tensor& keys, const at::Tensor& values, KvFormat format,
                    at::ScalarType type) {
  switch (format) {
    case KvFormat::kInt8:
      return int8_slots(keys, values);
    case KvFormat::kFloat8:
      return float8_slots(keys, values);
    case KvFormat::kModel:
      break;
  }
  return at::cat({keys, values}, 2).to(type);
}

// One sequence's share of an attention call.
struct SequenceRows {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int64_t context = 0;
};

// Positions [rows] of a sequence's rows and the bias [H, rows, context] that masks and slopes.
at::Tensor score_bias(const SequenceRows& rows, const std::optional<at::Tensor>& slopes,
                      int64_t window, const at::TensorOptions& options) {
  const auto index = options.dtype(at::kLong);
  const at::Tensor keys = at::arange(rows.context, index).unsqueeze(0);
  const at::Tensor queries =
      at::arange(rows.context - rows.num_rows, rows.context, index).unsqueeze(1);
  at::Tensor hidden = keys > queries;
  if (window > 0) hidden = hidden.logical_or(keys <= queries - window);
  at::Tensor bias = (keys - queries).to(options.dtype()).unsqueeze(0);
  bias = slopes ? bias * slopes->to(options.dtype()).view({-1, 1, 1}) : bias * 0;
  return bias.masked_fill(hidden.unsqueeze(0), -std::numeric_limits<double>::infinity());
}

}  // namespace

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& weight,
                 const std::optional<at::Tensor>& residual) {
  check_embed(tokens, weight, residual);
  const at::Tensor rows = weight.index_select(0, tokens);
  return residual ? (widen(rows) + widen(*residual)).to(rows.scalar_type()) : rows;
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  check_norm(x, weight, std::nullopt);
  const at::Tensor wide = widen(x);
  const at::Tensor scale = at::rsqrt(wide.square().mean(1, true) + epsilon);
  return (wide * scale * widen(weight)).to(x.scalar_type());
}

at::Tensor head_norm(const at::Tensor& qkv, const at::Tensor& query_weight,
                     const at::Tensor& key_weight, int64_t num_heads, int64_t num_kv_heads,
                     double epsilon) {
  const int64_t head_size = check_head_norm(qkv, query_weight, key_weight, num_heads, num_kv_heads);
  const at::Tensor heads = qkv.view({qkv.size(0), -1, head_size});
  const auto normed = [&](int64_t first, int64_t count, const at::Tensor& weight) {
    const at::Tensor rows = heads.narrow(1, first, count).reshape({-1, head_size}).contiguous();
    return rms_norm(rows, weight, epsilon).view({-1, count, head_size});
  };
  const at::Tensor values = heads.narrow(1, num_heads + num_kv_heads, num_kv_heads);
  return at::cat({normed(0, num_heads, query_weight), normed(num_heads, num_kv_heads, key_weight),
                  values},
                 1)
      .view(qkv.sizes());
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double epsilon) {
  check_norm(x, weight, bias);
  const at::Tensor wide = widen(x);
  const at::Tensor centred = wide - wide.mean(1, true);
  const at::Tensor scale = at::rsqrt(centred.square().mean(1, true) + epsilon);
  return (centred * scale * widen(weight) + widen(bias)).to(x.scalar_type());
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, std::string_view activation,
                  const std::optional<at::Tensor>& residual) {
  check_linear(x, weight, bias, residual);
  at::Tensor y = at::matmul(widen(x), widen(weight).t());
  if (bias) y = y + widen(*bias);
  y = activate(y, parse_activation(activation));
  if (residual) y = y + widen(*residual);
  return y.to(x.scalar_type());
}

at::Tensor swiglu(const at::Tensor& x) {
  check_swiglu(x);
  const int64_t half = x.size(1) / 2;
  const at::Tensor wide = widen(x);
  return (at::silu(wide.narrow(1, 0, half)) * wide.narrow(1, half, half)).to(x.scalar_type());
}

at::Tensor attention(const at::Tensor& qkv, const at::Tensor& positions, at::Tensor cache,
                     at::TensorList plan, int64_t num_heads, int64_t num_kv_heads, double scale,
                     const std::optional<at::Tensor>& rope,
                     const std::optional<at::Tensor>& alibi_slopes, int64_t window) {
  const AttentionSizes sizes = check_attention({qkv, positions, cache, plan, rope, alibi_slopes},
                                               num_heads, num_kv_heads, window);
  const int64_t head_size = sizes.head_size;
  const at::Tensor heads = widen(qkv).view({sizes.num_tokens, -1, head_size});
  at::Tensor queries = heads.narrow(1, 0, num_heads);
  at::Tensor keys = heads.narrow(1, num_heads, num_kv_heads);
  const at::Tensor values = heads.narrow(1, num_heads + num_kv_heads, num_kv_heads);
  if (rope) {
    const at::Tensor angles = rope->index_select(0, positions).unsqueeze(1).to(heads.scalar_type());
    queries = rotate(queries, angles);
    keys = rotate(keys, angles);
  }
  const at::Tensor slots = slots_of(keys, values, sizes.cache_format, cache.scalar_type());
  const at::Tensor by_slot = cache.transpose(1, 2);  // [N, S, Hkv, 2 D]
  const at::Tensor starts = plan[kSequenceStarts].cpu();
  const at::Tensor contexts = plan[kContextLengths].cpu();
  at::Tensor output = at::empty({sizes.num_tokens, num_heads, head_size}, qkv.options());
  for (int64_t b = 0; b < sizes.num_sequences; ++b) {
    SequenceRows rows;
    rows.first_row = starts[b].item<int32_t>();
    rows.num_rows = starts[b + 1].item<int32_t>() - rows.first_row;
    rows.context = contexts[b].item<int32_t>();
    if (rows.num_rows == 0) continue;
    const at::Tensor position = at::arange(rows.context, positions.options().dtype(at::kLong));
    const at::Tensor block = plan[kBlockTables][b].to(at::kLong).index_select(
        0, position.div(sizes.block_size, "floor"));
    const at::Tensor slot = position.remainder(sizes.block_size);
    const int64_t first = rows.context - rows.num_rows;
    by_slot.index_put_(
        {block.narrow(0, first, rows.num_rows), slot.narrow(0, first, rows.num_rows)},
        slots.narrow(0, rows.first_row, rows.num_rows));
    const at::Tensor read = by_slot.index({block, slot});
    const at::Tensor wide =  // [context, Hkv, 2 D]
        sizes.cache_format == KvFormat::kModel
            ? widen(read)
            : dequantize_slots(read, sizes.cache_format, head_size).to(heads.scalar_type());
    const at::Tensor context = wide.repeat_interleave(num_heads / num_kv_heads, 1).transpose(0, 1);
    const at::Tensor query = queries.narrow(0, rows.first_row, rows.num_rows).transpose(0, 1);
    const at::Tensor scores =
        at::matmul(query, context.narrow(2, 0, head_size).transpose(1, 2)) * scale +
        score_bias(rows, alibi_slopes, window, query.options());
    const at::Tensor mixed =
        at::matmul(at::softmax(scores, 2), context.narrow(2, head_size, head_size));
    output.narrow(0, rows.first_row, rows.num_rows).copy_(mixed.transpose(0, 1));
  }
  return output.view({sizes.num_tokens, num_heads * head_size});
}

at::Tensor select_rows(const at::Tensor& x, at::TensorList plan) {
  check_select_rows(x, plan);
  return x.index_select(0, plan[kLogitRows]);
}

at::Tensor logits(const at::Tensor& x, const at::Tensor& weight) {
  check_linear(x, weight, std::nullopt, std::nullopt);
  return at::matmul(widen(x), widen(weight).t());
}

void register_backend(torch::Library& library) {
  library.impl("embed", &embed);
  library.impl("rms_norm", &rms_norm);
  library.impl("layer_norm", &layer_norm);
  library.impl("head_norm", &head_norm);
  library.impl("linear", &linear);
  library.impl("swiglu", &swiglu);
  library.impl("attention", &attention);
  library.impl("select_rows", &select_rows);
  library.impl("logits", &logits);
}

}  // namespace sluice::kernels::reference
