#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/activation.h"
#include "kernels/dtype.h"
#include "kernels/kv_layout.h"

// What every backend demands of an operator's arguments, in one place. A violation throws
// c10::Error with both numbers; the model runner turns it into an Error.
namespace sluice::kernels {

// Sizes of one attention call, in the letters of operators.h.
struct AttentionSizes {
  int64_t num_tokens = 0;        // T
  int64_t num_sequences = 0;     // B
  int64_t num_heads = 0;         // H
  int64_t num_kv_heads = 0;      // Hkv
  int64_t head_size = 0;         // D
  int64_t block_size = 0;        // S
  int64_t num_blocks = 0;        // N
  int64_t max_blocks = 0;        // M
  int64_t rotary_size = 0;       // D_rot, 0 without a table
  int64_t rotary_positions = 0;  // P
  KvFormat cache_format = KvFormat::kModel;
};

// The operands of attention that have shapes to check.
struct AttentionOperands {
  const at::Tensor& qkv;
  const at::Tensor& positions;
  const at::Tensor& cache;
  at::TensorList plan;
  const std::optional<at::Tensor>& rope;
  const std::optional<at::Tensor>& alibi_slopes;
};

// LibTorch's name of a number format as the kernels', which throws c10::Error for one without
// kernels, and back.
DType dtype_of(at::ScalarType type);
inline DType dtype_of(const at::Tensor& tensor) {
  return dtype_of(tensor.scalar_type());
}
at::ScalarType scalar_type_of(DType type);

Activation parse_activation(std::string_view name);
void check_embed(const at::Tensor& tokens, const at::Tensor& weight,
                 const std::optional<at::Tensor>& residual);
void check_norm(const at::Tensor& x, const at::Tensor& weight,
                const std::optional<at::Tensor>& bias);
// Returns D.
int64_t check_head_norm(const at::Tensor& qkv, const at::Tensor& query_weight,
                        const at::Tensor& key_weight, int64_t num_heads, int64_t num_kv_heads);
void check_linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& residual);
void check_swiglu(const at::Tensor& x);
void check_select_rows(const at::Tensor& x, at::TensorList plan);
AttentionSizes check_attention(const AttentionOperands& operands, int64_t num_heads,
                               int64_t num_kv_heads, int64_t window);

// What the plan's numbers must satisfy, for backends whose plan the host can read: rows in order,
// contexts that hold the rows, blocks inside the pool, positions inside the table.
void check_attention_plan(const AttentionOperands& operands, const AttentionSizes& sizes);

}  // namespace sluice::kernels
