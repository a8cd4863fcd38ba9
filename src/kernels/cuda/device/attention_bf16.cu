#include "kernels/cuda/device/attention_tensor.cuh"

namespace sluice::kernels::cuda {

Status attend_bf16(const AttentionArgs& args, const AttentionStep& step, Stream stream) {
  return args.cache_format == KvFormat::kInt8 ? attend_tensor_of<BFloat16, int8_t>(step, stream)
                                              : attend_tensor_of<BFloat16, BFloat16>(step, stream);
}

}  // namespace sluice::kernels::cuda
