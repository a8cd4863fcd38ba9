#include "engine/model_executor.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace sluice::engine {

ModelExecutor::ModelExecutor(std::unique_ptr<model::ModelRunner> runner,
                             std::shared_ptr<kernels::ThreadPool> pool,
                             std::unique_ptr<DeviceSampler> sampler)
    : runner_(std::move(runner)), pool_(std::move(pool)), sampler_(std::move(sampler)) {}

Result<void> ModelExecutor::warm_up(int32_t block_size) {
  if (sampler_ == nullptr) {
    sampling::reserve_for_rows(*pool_, runner_->config().vocabulary_size);
  }
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

std::unexpected<Error> ModelExecutor::explained(Error error) const {
  error.message += says_library_messages_ ? ": " + runner_->failure_detail()
                                          : " (--log-library-messages says more)";
  return std::unexpected(std::move(error));
}

Result<void> ModelExecutor::draw(const at::Tensor& logits) {
  const int32_t vocabulary_size = runner_->config().vocabulary_size;
  results_.resize(input_->rows.size());
  if (sampler_ != nullptr) {
    try {
      sampler_->sample(logits, input_->rows, results_);
      return {};
    } catch (const std::exception& exception) {
      return explained(runner_->failed(exception).error());
    }
  }
  auto* row = logits.mutable_data_ptr<float>();
  for (sampling::RowTask& task : input_->rows) {
    task.logits = row;
    row += vocabulary_size;
  }
  sampling::sample_rows(input_->rows, vocabulary_size, results_);
  return {};
}

Result<std::span<sampling::RowResult>> ModelExecutor::collect() {
  const kernels::ComputeScope scope(*pool_);
  const auto logits = runner_->start(input_->batch);
  if (!logits) return explained(logits.error());
  const observability::ProfiledPart part(profiler_, "sampling");
  if (auto drawn = draw(*logits); !drawn) return std::unexpected(drawn.error());
  return std::span(results_);
}

}  // namespace sluice::engine
