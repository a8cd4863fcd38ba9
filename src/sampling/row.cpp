#include "sampling/row.h"

#include <algorithm>
#include <functional>

#include "kernels/compute.h"

namespace sluice::sampling {

const RowKernels& row_kernels() {
  static const RowKernels& kernels = [&]() -> const RowKernels& {
    const auto isa = kernels::cpu_isa();
    const bool has_avx512 = isa.has_value() && *isa != kernels::Isa::kAvx2;
    return has_avx512 ? avx512::kRowKernels : avx2::kRowKernels;
  }();
  return kernels;
}

void Row::reserve(int32_t size) {
  group_keys_.reserve(static_cast<size_t>(size / kGroup + 1));
  scratch_.reserve(group_keys_.capacity());
}

void Row::scan(std::span<const float> z) {
  z_ = z;
  group_keys_.resize((z.size() + kGroup - 1) / kGroup);
  range_ = {INT32_MAX, INT32_MIN};
  const RowKernels& kernels = row_kernels();
  for (int32_t g = 0; g < num_groups(); ++g) {
    const auto part = group(g);
    const KeyRange range = kernels.key_range(part.data(), static_cast<int>(part.size()));
    group_keys_[g] = range.largest;
    range_.smallest = std::min(range_.smallest, range.smallest);
    range_.largest = std::max(range_.largest, range.largest);
  }
}

std::span<const float> Row::group(int32_t g) const {
  const size_t begin = static_cast<size_t>(g) * kGroup;
  return z_.subspan(begin, std::min<size_t>(kGroup, z_.size() - begin));
}

bool Row::is_finite_or_minus_infinity() const {
  return range_.smallest >= kKeyOfMinusInfinity && range_.largest < kKeyOfInfinity;
}

float Row::max() const {
  return from_key(range_.largest);
}
float Row::min() const {
  return from_key(range_.smallest);
}

int32_t Row::argmax() const {
  const auto holder = std::find(group_keys_.begin(), group_keys_.end(), range_.largest);
  const auto g = static_cast<int32_t>(holder - group_keys_.begin());
  const auto part = group(g);
  const auto place =
      std::find_if(part.begin(), part.end(), [&](float z) { return key_of(z) == range_.largest; });
  return g * kGroup + static_cast<int32_t>(place - part.begin());
}

int32_t Row::key_reached_by(int32_t count) {
  if (count > num_groups()) return INT32_MIN;
  scratch_ = group_keys_;
  std::nth_element(scratch_.begin(), scratch_.begin() + (count - 1), scratch_.end(),
                   std::greater<>());
  return scratch_[count - 1];
}

}  // namespace sluice::sampling
