#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "sluice/error.h"

namespace sluice::kernels {
class ThreadPool;
}

namespace sluice::model {

// kInvalidArgument, naming the weight, if the tensor holds a NaN or an infinity. Float32, float16
// or bfloat16; contiguous.
Result<void> check_finite(const std::string& name, const at::Tensor& tensor,
                          kernels::ThreadPool& pool);

}  // namespace sluice::model
