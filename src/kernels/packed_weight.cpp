#include "kernels/packed_weight.h"

#include <ATen/OpaqueTensorImpl.h>

#include "kernels/packed_handle.h"

namespace sluice::kernels {
namespace {
using Impl = at::OpaqueTensorImpl<PackedHandle>;
}

Result<at::Tensor> pack_weight(const at::Tensor& weight) {
  const at::ScalarType type = weight.scalar_type();
  if (type != at::kFloat && type != at::kHalf && type != at::kBFloat16) {
    return invalid_argument(std::string("weight has dtype ") + c10::toString(type) +
                            ", expected float32, float16 or bfloat16");
  }
  if (weight.dim() != 2 || !weight.is_cpu() || !weight.is_contiguous()) {
    return invalid_argument("weight has " + std::to_string(weight.dim()) +
                            " dimensions, expected 2, contiguous, on the CPU");
  }
  auto packed = std::make_shared<PackedWeight>();
  packed->rows = weight.clone();
  return at::detail::make_tensor<Impl>(c10::DispatchKeySet(c10::DispatchKey::CPU), weight.dtype(),
                                       weight.device(), PackedHandle(packed), weight.sizes());
}

const PackedWeight* packed_weight(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.unsafeGetTensorImpl()->has_storage()) return nullptr;
  const auto* impl = dynamic_cast<const Impl*>(tensor.unsafeGetTensorImpl());
  return impl == nullptr ? nullptr : impl->opaque_handle().get();
}

bool is_packed(const at::Tensor& tensor) {
  return packed_weight(tensor) != nullptr;
}

int64_t packed_bytes(const at::Tensor& packed) {
  return static_cast<int64_t>(packed_weight(packed)->rows.nbytes());
}

}  // namespace sluice::kernels
