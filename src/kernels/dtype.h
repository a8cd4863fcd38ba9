#pragma once

#include <cstdint>

namespace sluice::kernels {

// The number formats that kernels have, for files that do not see LibTorch (checks.h has the way to
// its at::ScalarType and back).
enum class DType : uint8_t { kF32, kF16, kBF16 };

}  // namespace sluice::kernels
