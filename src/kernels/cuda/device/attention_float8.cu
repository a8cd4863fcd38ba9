#include "kernels/cuda/device/attention_tensor.cuh"

namespace sluice::kernels::cuda {

Status attend_float8(const AttentionArgs& args, const AttentionStep& step, Stream stream) {
  return args.type == DType::kF16 ? attend_tensor_of<Half, Float8>(step, stream)
                                  : attend_tensor_of<BFloat16, Float8>(step, stream);
}

}  // namespace sluice::kernels::cuda
