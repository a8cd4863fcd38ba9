#include "engine/model_executor.h"

#include <algorithm>
#include <utility>

namespace sluice::engine {

ModelExecutor::ModelExecutor(std::unique_ptr<model::ModelRunner> runner,
                             std::shared_ptr<kernels::ThreadPool> pool)
    : runner_(std::move(runner)), pool_(std::move(pool)) {}

Result<void> ModelExecutor::warm_up(int32_t block_size) {
  sampling::reserve_for_rows(*pool_, runner_->config().vocabulary_size);
  StepInput input;
  const sampling::SamplingParams params;
  for (const int32_t num_tokens :
       {std::min({runner_->config().context_length, block_size, 33}), 1}) {
    input.clear();
    for (int32_t p = 0; p < num_tokens; ++p) {
      input.batch.tokens.push_back(0);
      input.batch.positions.push_back(p);
    }
    input.batch.sequence_starts.push_back(num_tokens);
    input.batch.context_lengths.push_back(num_tokens);
    input.batch.block_tables.push_back(0);
    input.batch.max_blocks = 1;
    input.batch.logit_rows.push_back(num_tokens - 1);
    input.rows.emplace_back().params = &params;
    launch(input);
    if (auto results = collect(); !results) return std::unexpected(results.error());
  }
  return {};
}

void ModelExecutor::set_profiler(observability::StepProfiler* profiler) {
  profiler_ = profiler;
  runner_->set_profiler(profiler);
}

Result<std::span<sampling::RowResult>> ModelExecutor::collect() {
  const kernels::ComputeScope scope(*pool_);
  const auto logits = runner_->forward(input_->batch);
  if (!logits) {
    return fail(
        logits.error().code,
        logits.error().message + (says_library_messages_ ? ": " + runner_->failure_detail()
                                                         : " (--log-library-messages says more)"));
  }
  const observability::ProfiledPart part(profiler_, "sampling");
  const int32_t vocabulary_size = runner_->config().vocabulary_size;
  results_.resize(input_->rows.size());
  auto* row = logits->mutable_data_ptr<float>();
  for (sampling::RowTask& task : input_->rows) {
    task.logits = row;
    row += vocabulary_size;
  }
  sampling::sample_rows(input_->rows, vocabulary_size, results_);
  return std::span(results_);
}

}  // namespace sluice::engine
