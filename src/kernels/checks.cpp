#include "kernels/checks.h"

#include <c10/util/Exception.h>

#include "kernels/operators.h"

namespace sluice::kernels {
namespace {

void check_activations(const char* name, const at::Tensor& x) {
  TORCH_CHECK(x.dim() == 2, name, " has ", x.dim(), " dimensions, expected 2");
  TORCH_CHECK(at::isFloatingType(x.scalar_type()), name, " has dtype ", x.scalar_type(),
              ", expected a floating one");
  TORCH_CHECK(x.is_contiguous(), name, " is not contiguous");
}

void check_vector(const char* name, const at::Tensor& vector, int64_t size, at::ScalarType type) {
  TORCH_CHECK(vector.dim() == 1 && vector.size(0) == size, name, " has shape ", vector.sizes(),
              ", expected [", size, "]");
  TORCH_CHECK(vector.scalar_type() == type, name, " has dtype ", vector.scalar_type(),
              ", expected ", type);
  TORCH_CHECK(vector.is_contiguous(), name, " is not contiguous");
}

void check_residual(const at::Tensor& residual, int64_t rows, int64_t columns,
                    at::ScalarType type) {
  check_activations("residual", residual);
  TORCH_CHECK(residual.size(0) == rows && residual.size(1) == columns, "residual has shape ",
              residual.sizes(), ", expected [", rows, ", ", columns, "]");
  TORCH_CHECK(residual.scalar_type() == type, "residual has dtype ", residual.scalar_type(),
              ", expected ", type);
}

// The head size D of rows of H query, Hkv key and Hkv value heads.
int64_t head_size_of(const at::Tensor& qkv, int64_t num_heads, int64_t num_kv_heads) {
  check_activations("qkv", qkv);
  TORCH_CHECK(num_kv_heads >= 1 && num_heads >= 1 && num_heads % num_kv_heads == 0, num_heads,
              " heads cannot share ", num_kv_heads, " KV heads");
  const int64_t num_parts = num_heads + 2 * num_kv_heads;
  TORCH_CHECK(qkv.size(1) % num_parts == 0, "qkv has ", qkv.size(1),
              " columns, expected a multiple of ", num_parts);
  return qkv.size(1) / num_parts;
}

const at::Tensor& plan_entry(at::TensorList plan, PlanIndex index, int64_t dimensions) {
  TORCH_CHECK(plan.size() >= kPlanSize, "plan has ", plan.size(), " tensors, expected ",
              static_cast<int>(kPlanSize));
  const at::Tensor& entry = plan[index];
  TORCH_CHECK(entry.scalar_type() == at::kInt && entry.dim() == dimensions && entry.is_contiguous(),
              "plan[", static_cast<int>(index), "] has dtype ", entry.scalar_type(), " and shape ",
              entry.sizes(), ", expected int32, contiguous, ", dimensions, " dimensions");
  return entry;
}

}  // namespace

DType dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return DType::kF32;
    case at::kHalf:
      return DType::kF16;
    case at::kBFloat16:
      return DType::kBF16;
    default:
      break;
  }
  TORCH_CHECK(false, "dtype is ", type, ", expected float32, float16 or bfloat16");
}

at::ScalarType scalar_type_of(DType type) {
  switch (type) {
    case DType::kF32:
      return at::kFloat;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      break;
  }
  return at::kBFloat16;
}

Activation parse_activation(std::string_view name) {
  if (name.empty()) return Activation::kNone;
  if (name == "gelu_tanh") return Activation::kGeluTanh;
  if (name == "gelu") return Activation::kGelu;
  if (name == "silu") return Activation::kSilu;
  if (name == "relu") return Activation::kRelu;
  TORCH_CHECK(false, "activation is \"", name, "\", expected \"\", gelu_tanh, gelu, silu or relu");
}

void check_embed(const at::Tensor& tokens, const at::Tensor& weight,
                 const std::optional<at::Tensor>& residual) {
  check_vector("tokens", tokens, tokens.numel(), at::kInt);
  TORCH_CHECK(weight.dim() == 2, "weight has ", weight.dim(), " dimensions, expected 2");
  if (residual) check_residual(*residual, tokens.size(0), weight.size(1), weight.scalar_type());
}

void check_norm(const at::Tensor& x, const at::Tensor& weight,
                const std::optional<at::Tensor>& bias) {
  check_activations("x", x);
  check_vector("weight", weight, x.size(1), x.scalar_type());
  if (bias) check_vector("bias", *bias, x.size(1), x.scalar_type());
}

int64_t check_head_norm(const at::Tensor& qkv, const at::Tensor& query_weight,
                        const at::Tensor& key_weight, int64_t num_heads, int64_t num_kv_heads) {
  const int64_t head_size = head_size_of(qkv, num_heads, num_kv_heads);
  check_vector("query_weight", query_weight, head_size, qkv.scalar_type());
  check_vector("key_weight", key_weight, head_size, qkv.scalar_type());
  return head_size;
}

void check_linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias,
                  const std::optional<at::Tensor>& residual) {
  check_activations("x", x);
  TORCH_CHECK(weight.dim() == 2, "weight has ", weight.dim(), " dimensions, expected 2");
  TORCH_CHECK(weight.size(1) == x.size(1), "x has ", x.size(1), " columns, weight has ",
              weight.size(1));
  TORCH_CHECK(weight.scalar_type() == x.scalar_type(), "x has dtype ", x.scalar_type(),
              ", weight has ", weight.scalar_type());
  if (bias) check_vector("bias", *bias, weight.size(0), x.scalar_type());
  if (residual) check_residual(*residual, x.size(0), weight.size(0), x.scalar_type());
}

void check_swiglu(const at::Tensor& x) {
  check_activations("x", x);
  TORCH_CHECK(x.size(1) % 2 == 0, "x has ", x.size(1), " columns, expected an even number");
}

void check_select_rows(const at::Tensor& x, at::TensorList plan) {
  check_activations("x", x);
  plan_entry(plan, kLogitRows, 1);
}

AttentionSizes check_attention(const AttentionOperands& operands, int64_t num_heads,
                               int64_t num_kv_heads, int64_t window) {
  const auto& [qkv, positions, cache, plan, rope, alibi_slopes] = operands;
  AttentionSizes sizes;
  sizes.head_size = head_size_of(qkv, num_heads, num_kv_heads);
  sizes.num_tokens = qkv.size(0);
  sizes.num_heads = num_heads;
  sizes.num_kv_heads = num_kv_heads;
  TORCH_CHECK(sizes.head_size % 2 == 0, "head size is ", sizes.head_size, ", expected an even one");
  check_vector("positions", positions, sizes.num_tokens, at::kInt);

  const at::Tensor& starts = plan_entry(plan, kSequenceStarts, 1);
  const at::Tensor& contexts = plan_entry(plan, kContextLengths, 1);
  const at::Tensor& tables = plan_entry(plan, kBlockTables, 2);
  sizes.num_sequences = contexts.size(0);
  sizes.max_blocks = tables.size(1);
  TORCH_CHECK(starts.size(0) == sizes.num_sequences + 1 && tables.size(0) == sizes.num_sequences,
              "plan is for ", sizes.num_sequences, " contexts, ", starts.size(0) - 1,
              " sequences and ", tables.size(0), " block tables");

  TORCH_CHECK(cache.dim() == 4 && cache.is_contiguous(), "cache has shape ", cache.sizes(),
              ", expected that of kv_cache_shape(), contiguous");
  sizes.num_blocks = cache.size(0);
  sizes.block_size = cache.size(2);
  sizes.cache_format = cache.scalar_type() == at::kChar   ? KvFormat::kInt8
                       : cache.scalar_type() == at::kByte ? KvFormat::kFloat8
                                                          : KvFormat::kModel;
  TORCH_CHECK(cache.scalar_type() == qkv.scalar_type() || sizes.cache_format != KvFormat::kModel,
              "cache has dtype ", cache.scalar_type(), ", qkv has ", qkv.scalar_type());
  const int64_t slot_size = cache.size(3) - kv_scale_bytes(sizes.cache_format);
  TORCH_CHECK(cache.size(1) == num_kv_heads && slot_size == 2 * sizes.head_size, "cache is for ",
              cache.size(1), " KV heads of ", slot_size / 2, " numbers, qkv has ", num_kv_heads,
              " of ", sizes.head_size);
  TORCH_CHECK(window >= 0, "window is ", window, ", expected at least 0");
  if (rope) {
    TORCH_CHECK(rope->dim() == 3 && rope->size(2) == 2 && rope->scalar_type() == at::kFloat &&
                    rope->is_contiguous(),
                "rope has dtype ", rope->scalar_type(), " and shape ", rope->sizes(),
                ", expected float32 [P, D_rot / 2, 2], contiguous");
    sizes.rotary_positions = rope->size(0);
    sizes.rotary_size = 2 * rope->size(1);
    TORCH_CHECK(sizes.rotary_size <= sizes.head_size, "rope rotates ", sizes.rotary_size,
                " numbers, a head has ", sizes.head_size);
  }
  if (alibi_slopes) check_vector("alibi_slopes", *alibi_slopes, num_heads, at::kFloat);
  return sizes;
}

void check_attention_plan(const AttentionOperands& operands, const AttentionSizes& sizes) {
  const int32_t* starts = operands.plan[kSequenceStarts].const_data_ptr<int32_t>();
  const int32_t* contexts = operands.plan[kContextLengths].const_data_ptr<int32_t>();
  const int32_t* tables = operands.plan[kBlockTables].const_data_ptr<int32_t>();
  TORCH_CHECK(starts[0] == 0 && starts[sizes.num_sequences] == sizes.num_tokens,
              "plan covers rows ", starts[0], " to ", starts[sizes.num_sequences], ", qkv has ",
              sizes.num_tokens);
  for (int64_t b = 0; b < sizes.num_sequences; ++b) {
    const int64_t rows = int64_t{starts[b + 1]} - starts[b];
    TORCH_CHECK(rows >= 0 && rows <= contexts[b], "sequence ", b, " has ", rows,
                " rows and a context of ", contexts[b]);
    const int64_t num_blocks = (contexts[b] + sizes.block_size - 1) / sizes.block_size;
    TORCH_CHECK(num_blocks <= sizes.max_blocks, "sequence ", b, " needs ", num_blocks,
                " blocks, its table has ", sizes.max_blocks);
    if (rows == 0) continue;
    for (int64_t m = 0; m < num_blocks; ++m) {
      const int32_t block = tables[b * sizes.max_blocks + m];
      TORCH_CHECK(block >= 0 && block < sizes.num_blocks, "sequence ", b, " names block ", block,
                  ", the pool has ", sizes.num_blocks);
    }
  }
  if (sizes.rotary_size == 0) return;
  const int32_t* positions = operands.positions.const_data_ptr<int32_t>();
  for (int64_t t = 0; t < sizes.num_tokens; ++t) {
    TORCH_CHECK(positions[t] >= 0 && positions[t] < sizes.rotary_positions, "row ", t,
                " has position ", positions[t], ", the rope table has ", sizes.rotary_positions);
  }
}

}  // namespace sluice::kernels
