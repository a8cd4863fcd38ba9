#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "kernels/compute.h"
#include "kernels/device.h"
#include "kernels/kv_layout.h"
#include "kernels/quantize.h"

// What the kernel tests share. Every test runs on the device of tests/device, and on the CPU on the
// instruction set that SLUICE_CPU_ISA names; ctest runs each program once for each of them.
namespace sluice::kernels::testing {

inline constexpr at::ScalarType kDtypes[] = {at::kFloat, at::kHalf, at::kBFloat16};

// Half the distance of 1 and the next number: the relative error of rounding to `type`.
double unit_roundoff(at::ScalarType type);

// Standard normal numbers times `scale`, rounded to `type`; the same for the same seed everywhere.
at::Tensor random_tensor(at::IntArrayRef shape, uint64_t seed, at::ScalarType type,
                         double scale = 1.0);
at::Tensor int_tensor(const std::vector<int32_t>& values);

bool same_bits(const at::Tensor& a, const at::Tensor& b);

// |actual - expected| <= tolerance for each element; a failure names the worst one.
::testing::AssertionResult close(const at::Tensor& actual, const at::Tensor& expected,
                                 const at::Tensor& tolerance);

// The dtype of the cache of a model of `type`.
at::ScalarType cache_type(KvFormat format, at::ScalarType type);

// The device under test. Requires: KernelTest's SetUp().
Device& device();

// The operators of the device under test, for tensors of the CPU's memory: copied there and back.
at::Tensor embed(const at::Tensor& tokens, const at::Tensor& weight,
                 const std::optional<at::Tensor>& residual = std::nullopt);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double epsilon);
at::Tensor head_norm(const at::Tensor& qkv, const at::Tensor& query_weight,
                     const at::Tensor& key_weight, int64_t num_heads, int64_t num_kv_heads,
                     double epsilon);
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, std::string_view activation,
                  const std::optional<at::Tensor>& residual);
at::Tensor swiglu(const at::Tensor& x);
at::Tensor attention(const at::Tensor& qkv, const at::Tensor& positions, at::Tensor cache,
                     at::TensorList plan, int64_t num_heads, int64_t num_kv_heads, double scale,
                     const std::optional<at::Tensor>& rope,
                     const std::optional<at::Tensor>& alibi_slopes, int64_t window);
at::Tensor select_rows(const at::Tensor& x, at::TensorList plan);
at::Tensor logits(const at::Tensor& x, const at::Tensor& weight);
Result<at::Tensor> pack(const at::Tensor& weight);
Result<at::Tensor> pack(const QuantizedWeight& weight, at::ScalarType activations);

// Skips, visibly, where the machine lacks the device or cannot run the instruction set.
class KernelTest : public ::testing::Test {
 protected:
  void SetUp() override;
};

}  // namespace sluice::kernels::testing
