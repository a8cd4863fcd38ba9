#pragma once

namespace sluice::kernels {

// The operators' schemas, one string each, in the order of operators.h. They are what TorchScript
// programs are compiled against: changing one breaks packages that exist.
inline constexpr const char* kOperatorNamespace = "sluice";
inline constexpr const char* kOperatorSchemas[] = {
    "embed(Tensor tokens, Tensor weight, Tensor? residual=None) -> Tensor",
    "rms_norm(Tensor x, Tensor weight, float epsilon) -> Tensor",
    "layer_norm(Tensor x, Tensor weight, Tensor bias, float epsilon) -> Tensor",
    "head_norm(Tensor qkv, Tensor query_weight, Tensor key_weight, int num_heads, "
    "int num_kv_heads, float epsilon) -> Tensor",
    "linear(Tensor x, Tensor weight, Tensor? bias=None, str activation=\"\", "
    "Tensor? residual=None) -> Tensor",
    "swiglu(Tensor x) -> Tensor",
    "attention(Tensor qkv, Tensor positions, Tensor(a!) cache, Tensor[] plan, int num_heads, "
    "int num_kv_heads, float scale, Tensor? rope=None, Tensor? alibi_slopes=None, "
    "int window=0) -> Tensor",
    "select_rows(Tensor x, Tensor[] plan) -> Tensor",
    "logits(Tensor x, Tensor weight) -> Tensor",
};

}  // namespace sluice::kernels
