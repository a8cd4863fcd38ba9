#pragma once

#include <cstdint>

namespace sluice::kernels {

// What `linear` applies after the bias.
enum class Activation : uint8_t { kNone, kGeluTanh, kGelu, kSilu, kRelu };

}  // namespace sluice::kernels
