#pragma once

#include <chrono>
#include <vector>

#include "engine/step_executor.h"

namespace sluice::engine {

// Computes nothing: each token follows from its position. What is left is the engine's own cost.
// With a step time it waits in place of computing, so that everything around a model of that speed
// can be measured.
class NullExecutor final : public StepExecutor {
 public:
  explicit NullExecutor(int32_t vocabulary_size, std::chrono::nanoseconds step_time = {})
      : vocabulary_size_(vocabulary_size), step_time_(step_time) {}

  Result<void> launch(StepInput& input) override;
  Result<std::span<sampling::RowResult>> collect() override;

 private:
  const int32_t vocabulary_size_;
  const std::chrono::nanoseconds step_time_;
  std::chrono::steady_clock::time_point step_end_;
  std::vector<sampling::RowResult> results_;
};

}  // namespace sluice::engine
