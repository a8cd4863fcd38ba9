#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sluice::observability {

// The last values of a quantity (step times, for example), for exact percentiles.
//
// Threads: add() from one, take() from another; neither waits. A take() that is overtaken by a
// whole round of add() may mix old and new values.
class SampleRing final {
 public:
  // Requires: capacity >= 1.
  explicit SampleRing(size_t capacity);

  void add(float value);

  // Values added since the last take(), at most the newest `capacity`, oldest first.
  std::vector<float> take();

 private:
  std::vector<std::atomic<float>> values_;
  std::atomic<uint64_t> num_added_{0};
  uint64_t num_taken_ = 0;
};

// The value that `fraction` (0..1) of `values` do not exceed, by the nearest-rank rule; 0 if there
// are none. Reorders `values`.
float percentile(std::span<float> values, double fraction);

}  // namespace sluice::observability
