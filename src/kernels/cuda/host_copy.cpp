#include "kernels/cuda/cuda_device.h"

namespace sluice::kernels::cuda {

HostCopy::~HostCopy() {
  if (event_ != nullptr) (void)device_.api_.destroy_event(event_);
  device_.release_host(memory_);
}

void HostCopy::start(const at::Tensor& tensor, size_t num_bytes) {
  TORCH_CHECK(num_bytes <= tensor.nbytes(), "tensor has ", tensor.nbytes(), " bytes, expected ",
              num_bytes);
  const DeviceApi& api = device_.api_;
  device_.use();
  device_.grow_host(memory_, num_bytes);
  if (event_ == nullptr) device_.check(api.create_event(&event_));
  if (num_bytes > 0) {
    device_.check(
        api.copy_to_host(memory_.data, tensor.const_data_ptr(), num_bytes, device_.stream_));
  }
  device_.check(api.record_event(event_, device_.stream_));
}

const std::byte* HostCopy::wait() {
  device_.use();
  device_.check(device_.api_.wait_for_event(event_));
  return static_cast<const std::byte*>(memory_.data);
}

}  // namespace sluice::kernels::cuda
