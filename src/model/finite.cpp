#include "model/finite.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/compute.h"

namespace sluice::model {
namespace {

constexpr int64_t kScanBytes = 4 << 20;  // of one task

// True if all exponent bits of any element are set. No early exit, so that it is vectorized.
template <typename Word>
bool has_non_finite(const std::byte* data, int64_t count, Word exponent) {
  uint32_t found = 0;
  for (int64_t i = 0; i < count; ++i) {
    Word word;
    std::memcpy(&word, data + static_cast<size_t>(i) * sizeof(Word), sizeof(Word));
    found |= static_cast<uint32_t>((word & exponent) == exponent);
  }
  return found != 0;
}

bool has_non_finite(at::ScalarType dtype, const std::byte* data, int64_t count) {
  switch (dtype) {
    case at::kHalf:
      return has_non_finite<uint16_t>(data, count, 0x7c00);
    case at::kBFloat16:
      return has_non_finite<uint16_t>(data, count, 0x7f80);
    default:
      return has_non_finite<uint32_t>(data, count, 0x7f800000);
  }
}

}  // namespace

Result<void> check_finite(const std::string& name, const at::Tensor& tensor,
                          kernels::ThreadPool& pool) {
  const auto* data = static_cast<const std::byte*>(tensor.const_data_ptr());
  const auto element = static_cast<int64_t>(tensor.element_size());
  const int64_t per_task = kScanBytes / element;
  std::atomic<bool> found = false;
  pool.run((tensor.numel() + per_task - 1) / per_task, [&](int64_t task) {
    const int64_t begin = task * per_task;
    const int64_t count = std::min(per_task, tensor.numel() - begin);
    if (has_non_finite(tensor.scalar_type(), data + begin * element, count)) found = true;
  });
  if (found) return invalid_argument("weight '" + name + "' holds NaN or infinity");
  return {};
}

}  // namespace sluice::model
