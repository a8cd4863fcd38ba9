#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "kernels/compute.h"

// What the kernel tests share. Every test runs on the instruction set that SLUICE_CPU_ISA names;
// ctest runs each program once per instruction set.
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

// Skips, visibly, where the machine cannot run the instruction set.
class KernelTest : public ::testing::Test {
 protected:
  void SetUp() override;
};

}  // namespace sluice::kernels::testing
