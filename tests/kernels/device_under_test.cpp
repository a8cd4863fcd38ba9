#include <ATen/Parallel.h>

#include <cstring>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/plugin.h"
#include "kernels/operators.h"
#include "kernels/packed_weight.h"
#include "support.h"
#include "tests/device/test_device.h"

namespace sluice::kernels::testing {
namespace {

Result<Device*> open_cuda() {
  const auto api = cuda::device_api();
  if (!api) return std::unexpected(api.error());
  auto device = cuda::CudaDevice::open(**api, 0);
  if (!device) return std::unexpected(device.error());
  return *device;
}

const Result<Device*>& opened_device() {
  static const Result<Device*> opened = test_device::name() == "cpu" ? cpu_device() : open_cuda();
  return opened;
}

// Packed weights are where they belong.
at::Tensor there(const at::Tensor& tensor) {
  return is_packed(tensor) || device().is_cpu() ? tensor : device().upload(tensor);
}
std::optional<at::Tensor> there(const std::optional<at::Tensor>& tensor) {
  if (!tensor) return std::nullopt;
  return there(*tensor);
}
std::vector<at::Tensor> all_there(at::TensorList tensors) {
  std::vector<at::Tensor> moved;
  for (const at::Tensor& tensor : tensors) moved.push_back(there(tensor));
  return moved;
}
at::Tensor back(const at::Tensor& tensor) {
  return device().is_cpu() ? tensor : device().download(tensor).clone();
}

}  // namespace

Device& device() {
  return **opened_device();
}

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& weight,
                 const std::optional<at::Tensor>& residual) {
  return back(kernels::embed(there(tokens), there(weight), there(residual)));
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  return back(kernels::rms_norm(there(x), there(weight), epsilon));
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double epsilon) {
  return back(kernels::layer_norm(there(x), there(weight), there(bias), epsilon));
}

at::Tensor head_norm(const at::Tensor& qkv, const at::Tensor& query_weight,
                     const at::Tensor& key_weight, int64_t num_heads, int64_t num_kv_heads,
                     double epsilon) {
  return back(kernels::head_norm(there(qkv), there(query_weight), there(key_weight), num_heads,
                                 num_kv_heads, epsilon));
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, std::string_view activation,
                  const std::optional<at::Tensor>& residual) {
  return back(kernels::linear(there(x), there(weight), there(bias), activation, there(residual)));
}

at::Tensor swiglu(const at::Tensor& x) {
  return back(kernels::swiglu(there(x)));
}

at::Tensor attention(const at::Tensor& qkv, const at::Tensor& positions, at::Tensor cache,
                     at::TensorList plan, int64_t num_heads, int64_t num_kv_heads, double scale,
                     const std::optional<at::Tensor>& rope,
                     const std::optional<at::Tensor>& alibi_slopes, int64_t window) {
  const at::Tensor pool = there(cache);
  const at::Tensor output =
      back(kernels::attention(there(qkv), there(positions), pool, all_there(plan), num_heads,
                              num_kv_heads, scale, there(rope), there(alibi_slopes), window));
  if (!device().is_cpu()) {
    std::memcpy(cache.data_ptr(), device().download(pool).const_data_ptr(), cache.nbytes());
  }
  return output;
}

at::Tensor select_rows(const at::Tensor& x, at::TensorList plan) {
  return back(kernels::select_rows(there(x), all_there(plan)));
}

at::Tensor logits(const at::Tensor& x, const at::Tensor& weight) {
  return back(kernels::logits(there(x), there(weight)));
}

Result<at::Tensor> pack(const at::Tensor& weight) {
  return device().pack(weight);
}

Result<at::Tensor> pack(const QuantizedWeight& weight, at::ScalarType activations) {
  return device().pack(weight, activations);
}

void KernelTest::SetUp() {
  const Result<Device*>& opened = opened_device();
  if (!opened) GTEST_SKIP() << opened.error().message;
  register_operators();
  at::set_num_threads(1);  // for the reference: OpenMP's barriers crawl where other tests run
}

}  // namespace sluice::kernels::testing
