#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

// The operators that a model's TorchScript program calls as `sluice.NAME(...)`.
//
// Few and fat: TorchScript costs 27 ns an operator, a small ATen operator 1.3 us. Each has one
// schema (schemas.h), a reference implementation in plain ATen (reference.cpp: any device, and the
// tests' oracle) and one file per backend that overrides it through PyTorch's dispatcher.
//
// Row law: the bits of an output row depend on that row's own sequence only. Every backend reduces
// in an order fixed by the model and the position, whatever T, B, the chunks and the threads are.
//
// Letters: T tokens of the step, B sequences, R rows that need logits, H query heads, Hkv KV heads,
// D head size, V vocabulary, N pool blocks, S tokens per block, M blocks per sequence.
// Activations have the model's dtype (float32, float16 or bfloat16); sums are kept in float32.
namespace sluice::kernels {

// The step's plan, as the program passes it on: `plan: List[Tensor]`, int32, contiguous.
//
// | index            | shape    | meaning                                                        |
// |------------------|----------|----------------------------------------------------------------|
// | kSequenceStarts  | [B + 1]  | first row of each sequence; the last entry is T                |
// | kContextLengths  | [B]      | tokens in the cache after this step (so the chunk's last       |
// |                  |          | position is this minus one)                                    |
// | kBlockTables     | [B, M]   | pool block of position p at [b, p / S]; entries past the       |
// |                  |          | context are never read                                         |
// | kLogitRows       | [R]      | rows of T whose logits are wanted, ascending                   |
enum PlanIndex : int { kSequenceStarts, kContextLengths, kBlockTables, kLogitRows, kPlanSize };

// weight[tokens[t]] + residual[t].
//   tokens [T] int32 in [0, V) | weight [V, hidden], plain or packed | residual [T, hidden]
//   returns [T, hidden]
at::Tensor embed(const at::Tensor& tokens, const at::Tensor& weight,
                 const std::optional<at::Tensor>& residual);

// x / sqrt(mean(x^2) + epsilon) * weight over the last dimension.
//   x [T, hidden] | weight [hidden] | returns [T, hidden].  Zhang and Sennrich 2019, 1910.07467.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);

// (x - mean) / sqrt(var + epsilon) * weight + bias over the last dimension.  Ba et al., 1607.06450.
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double epsilon);

// RMSNorm of every query head and every key head by itself; value heads are copied.
//   qkv [T, (H + 2 Hkv) D]: a row holds H query heads, then Hkv key heads, then Hkv value heads
//   query_weight, key_weight [D] | returns [T, (H + 2 Hkv) D].  Qwen3, arXiv:2505.09388.
at::Tensor head_norm(const at::Tensor& qkv, const at::Tensor& query_weight,
                     const at::Tensor& key_weight, int64_t num_heads, int64_t num_kv_heads,
                     double epsilon);

// activation(x weight^T + bias) + residual.
//   x [T, K] | weight [N, K], plain or packed (packed_weight.h) | bias [N] | residual [T, N]
//   activation: "" (none), "gelu_tanh" (BLOOM, GPT-2), "gelu" (erf), "silu", "relu"
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, std::string_view activation,
                  const std::optional<at::Tensor>& residual);

// silu(x[:, :I]) * x[:, I:].   x [T, 2 I] | returns [T, I].  Shazeer 2020, 2002.05202.
at::Tensor swiglu(const at::Tensor& x);

// Writes this step's keys and values into the cache, then causal attention over each sequence's
// cached tokens: softmax(scale * q k^T + bias) v.
//   qkv [T, (H + 2 Hkv) D]: a row holds H query heads, then Hkv key heads, then Hkv value heads
//   positions [T] int32
//   cache: one layer's pool, of the shape that kv_cache_shape() gives, of the model's dtype,
//     int8 or (on GPUs) uint8; written in place, a slot once
//   rope: table [P, D_rot / 2, 2] float32 of (cos, sin) by position, applied to the first D_rot
//     numbers of each query and key head in the half-split ("rotate_half") convention, before the
//     cache write; D_rot <= D
//   alibi_slopes [H] float32: adds slope * (key position - query position)
//   window: only the last `window` positions are attended to; 0 is all of them
//   returns [T, H D]
at::Tensor attention(const at::Tensor& qkv, const at::Tensor& positions, at::Tensor cache,
                     at::TensorList plan, int64_t num_heads, int64_t num_kv_heads, double scale,
                     const std::optional<at::Tensor>& rope,
                     const std::optional<at::Tensor>& alibi_slopes, int64_t window);

// x[plan[kLogitRows]].   x [T, hidden] | returns [R, hidden]
at::Tensor select_rows(const at::Tensor& x, at::TensorList plan);

// x weight^T in float32, whatever the model's dtype.
//   x [R, hidden] | weight [V, hidden], plain or packed | returns [R, V] float32
at::Tensor logits(const at::Tensor& x, const at::Tensor& weight);

// Makes the operators and this build's backends known to PyTorch. Idempotent; any thread.
void register_operators();

}  // namespace sluice::kernels
