#pragma once

#include <vector>

#include "engine/step_executor.h"

namespace sluice::engine {

// Computes nothing: each token follows from its position. What is left is the engine's own cost.
class NullExecutor final : public StepExecutor {
 public:
  explicit NullExecutor(int32_t vocabulary_size) : vocabulary_size_(vocabulary_size) {}

  void launch(StepInput& input) override;
  Result<std::span<sampling::RowResult>> collect() override;

 private:
  int32_t vocabulary_size_;
  std::vector<sampling::RowResult> results_;
};

}  // namespace sluice::engine
