#pragma once

#include <cstdint>

namespace sluice::kernels {

// How a linear layer's weight is stored (quantize.h says what the numbers mean).
enum class WeightFormat : uint8_t { kPlain, kInt8, kInt4, kFloat8 };

}  // namespace sluice::kernels
