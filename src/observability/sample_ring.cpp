#include "observability/sample_ring.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace sluice::observability {

SampleRing::SampleRing(size_t capacity) : values_(capacity) {
  assert(capacity >= 1);
}

void SampleRing::add(float value) {
  const uint64_t position = num_added_.load(std::memory_order_relaxed);
  values_[position % values_.size()].store(value, std::memory_order_relaxed);
  num_added_.store(position + 1, std::memory_order_release);
}

std::vector<float> SampleRing::take() {
  const uint64_t end = num_added_.load(std::memory_order_acquire);
  const uint64_t oldest = end > values_.size() ? end - values_.size() : 0;
  std::vector<float> taken;
  for (uint64_t i = std::max(oldest, num_taken_); i < end; ++i) {
    taken.push_back(values_[i % values_.size()].load(std::memory_order_relaxed));
  }
  num_taken_ = end;
  return taken;
}

float percentile(std::span<float> values, double fraction) {
  if (values.empty()) return 0;
  const double rank =
      std::ceil(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(values.size()));
  const auto position = static_cast<std::ptrdiff_t>(std::max(1.0, rank)) - 1;
  std::ranges::nth_element(values, values.begin() + position);
  return values[static_cast<size_t>(position)];
}

}  // namespace sluice::observability
