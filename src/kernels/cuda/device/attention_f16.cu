#include "kernels/cuda/device/attention_tensor.cuh"

namespace sluice::kernels::cuda {

Status attend_f16(const AttentionArgs& args, const AttentionStep& step, Stream stream) {
  return args.cache_format == KvFormat::kInt8 ? attend_tensor_of<Half, int8_t>(step, stream)
                                              : attend_tensor_of<Half, Half>(step, stream);
}

}  // namespace sluice::kernels::cuda
