#include "engine/null_executor.h"

#include <thread>

namespace sluice::engine {

Result<void> NullExecutor::launch(StepInput& input) {
  step_end_ = std::chrono::steady_clock::now() + step_time_;
  results_.resize(input.rows.size());
  for (size_t i = 0; i < input.rows.size(); ++i) {
    const sampling::RowTask& task = input.rows[i];
    sampling::RowResult& result = results_[i];
    result = {};
    const auto vocabulary = static_cast<uint32_t>(vocabulary_size_);
    result.token_id = task.scored_token >= 0 ? task.scored_token
                                             : static_cast<int32_t>(task.position % vocabulary);
    if (task.num_logprobs > 0) result.top.push_back({result.token_id, 0.0f});
  }
  return {};
}

Result<std::span<sampling::RowResult>> NullExecutor::collect() {
  if (step_time_.count() > 0) std::this_thread::sleep_until(step_end_);
  return std::span(results_);
}

}  // namespace sluice::engine
