#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>
#include <c10/util/Half.h>
#include <torch/library.h>

#include <cstring>

#include "kernels/backends.h"
#include "kernels/checks.h"
#include "kernels/compute.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/machine.h"
#include "kernels/cpu/packed_panels.h"
#include "kernels/operators.h"
#include "kernels/output_pool.h"

namespace sluice::kernels::cpu {
namespace {

// Rows of a task of the operators that work row by row.
constexpr int64_t kRowsPerTask = 4;

template <typename Body>
void for_each_row_group(int64_t num_rows, const Body& body) {
  auto task = [&](int64_t index) {
    const int64_t first = index * kRowsPerTask;
    body(first, std::min(kRowsPerTask, num_rows - first));
  };
  parallel_for((num_rows + kRowsPerTask - 1) / kRowsPerTask, std::ref(task));
}

// Copies source(index) to row after row of `output`.
template <typename Source>
void gather_rows(at::Tensor& output, const Source& copy_row) {
  const int64_t row_bytes = output.size(1) * static_cast<int64_t>(output.element_size());
  char* rows = static_cast<char*>(output.data_ptr());
  for_each_row_group(output.size(0), [&](int64_t first, int64_t count) {
    for (int64_t row = first; row < first + count; ++row) copy_row(row, rows + row * row_bytes);
  });
}

void check_range(const char* name, const int32_t* values, int64_t count, int64_t limit) {
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK(values[i] >= 0 && values[i] < limit, name, "[", i, "] is ", values[i],
                ", expected at least 0 and less than ", limit);
  }
}

// output += residual, each sum rounded once.
template <typename T>
void add_to(const at::Tensor& output, const at::Tensor& residual) {
  auto* to = static_cast<T*>(output.data_ptr());
  const auto* from = static_cast<const T*>(residual.const_data_ptr());
  for (int64_t i = 0; i < output.numel(); ++i) {
    to[i] = static_cast<T>(static_cast<float>(to[i]) + static_cast<float>(from[i]));
  }
}

void add_residual(const at::Tensor& output, const std::optional<at::Tensor>& residual) {
  if (!residual) return;
  switch (dtype_of(output)) {
    case DType::kF32:
      return add_to<float>(output, *residual);
    case DType::kF16:
      return add_to<c10::Half>(output, *residual);
    case DType::kBF16:
      return add_to<c10::BFloat16>(output, *residual);
  }
}

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& weight,
                 const std::optional<at::Tensor>& residual) {
  check_embed(tokens, weight, residual);
  const int32_t* ids = tokens.const_data_ptr<int32_t>();
  check_range("tokens", ids, tokens.size(0), weight.size(0));
  at::Tensor output = empty_output({tokens.size(0), weight.size(1)}, weight.scalar_type());
  if (const PackedWeight* packed = packed_weight(weight)) {
    gather_rows(output, [&](int64_t row, void* to) { unpack_row(*packed, ids[row], to); });
    add_residual(output, residual);
    return output;
  }
  TORCH_CHECK(weight.is_contiguous(), "weight is not contiguous");
  const char* rows = static_cast<const char*>(weight.const_data_ptr());
  const int64_t row_bytes = weight.size(1) * static_cast<int64_t>(weight.element_size());
  gather_rows(output, [&](int64_t row, void* to) {
    std::memcpy(to, rows + ids[row] * row_bytes, row_bytes);
  });
  add_residual(output, residual);
  return output;
}

at::Tensor select_rows(const at::Tensor& x, at::TensorList plan) {
  check_select_rows(x, plan);
  const at::Tensor& wanted = plan[kLogitRows];
  const int32_t* indices = wanted.const_data_ptr<int32_t>();
  check_range("plan[kLogitRows]", indices, wanted.size(0), x.size(0));
  at::Tensor output = empty_output({wanted.size(0), x.size(1)}, x.scalar_type());
  const char* rows = static_cast<const char*>(x.const_data_ptr());
  const int64_t row_bytes = x.size(1) * static_cast<int64_t>(x.element_size());
  gather_rows(output, [&](int64_t row, void* to) {
    std::memcpy(to, rows + indices[row] * row_bytes, row_bytes);
  });
  return output;
}

NormArgs norm_args(const at::Tensor& x, const at::Tensor& weight, double epsilon,
                   at::Tensor& output) {
  NormArgs args;
  args.type = dtype_of(x);
  args.x = x.const_data_ptr();
  args.weight = weight.const_data_ptr();
  args.output = output.data_ptr();
  args.size = x.size(1);
  args.epsilon = static_cast<float>(epsilon);
  return args;
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  check_norm(x, weight, std::nullopt);
  at::Tensor output = empty_output(x.sizes(), x.scalar_type());
  const NormArgs args = norm_args(x, weight, epsilon, output);
  for_each_row_group(x.size(0), [&](int64_t first, int64_t count) {
    machine_kernels().rms_norm(args, first, count);
  });
  return output;
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double epsilon) {
  check_norm(x, weight, bias);
  at::Tensor output = empty_output(x.sizes(), x.scalar_type());
  NormArgs args = norm_args(x, weight, epsilon, output);
  args.bias = bias.const_data_ptr();
  for_each_row_group(x.size(0), [&](int64_t first, int64_t count) {
    machine_kernels().layer_norm(args, first, count);
  });
  return output;
}

// A row's heads are rows of size D to the kernel.
at::Tensor head_norm(const at::Tensor& qkv, const at::Tensor& query_weight,
                     const at::Tensor& key_weight, int64_t num_heads, int64_t num_kv_heads,
                     double epsilon) {
  const int64_t head_size = check_head_norm(qkv, query_weight, key_weight, num_heads, num_kv_heads);
  const int64_t num_parts = num_heads + 2 * num_kv_heads;
  at::Tensor output = empty_output(qkv.sizes(), qkv.scalar_type());
  NormArgs queries = norm_args(qkv, query_weight, epsilon, output);
  NormArgs keys = norm_args(qkv, key_weight, epsilon, output);
  queries.size = head_size;
  keys.size = head_size;
  const int64_t head_bytes = head_size * static_cast<int64_t>(qkv.element_size());
  const char* from = static_cast<const char*>(qkv.const_data_ptr());
  char* to = static_cast<char*>(output.data_ptr());
  for_each_row_group(qkv.size(0), [&](int64_t first, int64_t count) {
    for (int64_t row = first; row < first + count; ++row) {
      const int64_t first_key = row * num_parts + num_heads;
      const int64_t first_value = first_key + num_kv_heads;
      machine_kernels().rms_norm(queries, row * num_parts, num_heads);
      machine_kernels().rms_norm(keys, first_key, num_kv_heads);
      std::memcpy(to + first_value * head_bytes, from + first_value * head_bytes,
                  num_kv_heads * head_bytes);
    }
  });
  return output;
}

at::Tensor swiglu(const at::Tensor& x) {
  check_swiglu(x);
  SwigluArgs args;
  args.type = dtype_of(x);
  args.size = x.size(1) / 2;
  at::Tensor output = empty_output({x.size(0), args.size}, x.scalar_type());
  args.x = x.const_data_ptr();
  args.output = output.data_ptr();
  for_each_row_group(x.size(0), [&](int64_t first, int64_t count) {
    machine_kernels().swiglu(args, first, count);
  });
  return output;
}

}  // namespace

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

}  // namespace sluice::kernels::cpu
