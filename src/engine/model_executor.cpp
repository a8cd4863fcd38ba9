#include "engine/model_executor.h"

#include <algorithm>
#include <exception>
#include <ranges>
#include <utility>

#include "model/step_graphs.h"

namespace sluice::engine {
namespace {

constexpr int32_t kNoLogprobs = -1;
constexpr int32_t kMostLogprobs = 20;

}  // namespace

ModelExecutor::ModelExecutor(std::unique_ptr<model::ModelRunner> runner,
                             std::shared_ptr<kernels::ThreadPool> pool,
                             std::unique_ptr<DeviceSampler> sampler)
    : runner_(std::move(runner)), pool_(std::move(pool)), sampler_(std::move(sampler)) {}

Result<void> ModelExecutor::warm_up(int32_t block_size, int32_t max_num_seqs) {
  if (sampler_ == nullptr) {
    sampling::reserve_for_rows(*pool_, runner_->config().vocabulary_size);
  }
  const int32_t chunk = std::min({runner_->config().context_length, block_size, 33});
  auto tried = try_step(1, chunk, kNoLogprobs);
  if (sampler_ == nullptr) return tried ? try_step(1, 1, kNoLogprobs) : tried;
  // The largest first, with all that the sampler can be asked for: where memory grows, what was
  // recorded is lost.
  if (tried) tried = try_step(max_num_seqs, 1, kMostLogprobs);
  for (const int64_t size : std::views::reverse(model::StepGraphs::batch_sizes(max_num_seqs))) {
    for (int i = 0; tried && i < 2; ++i) {
      tried = try_step(static_cast<int32_t>(size), 1, kNoLogprobs);
    }
  }
  return tried ? try_overlap() : tried;
}

// Sequences that are all alike, in the pool's first block.
void ModelExecutor::make_step(int32_t num_sequences, int32_t num_tokens, int32_t num_logprobs,
                              StepInput& input) {
  static const sampling::SamplingParams params;
  input.clear();
  for (int32_t sequence = 0; sequence < num_sequences; ++sequence) {
    for (int32_t p = 0; p < num_tokens; ++p) {
      input.batch.tokens.push_back(0);
      input.batch.positions.push_back(p);
    }
    input.batch.sequence_starts.push_back(static_cast<int32_t>(input.batch.tokens.size()));
    input.batch.context_lengths.push_back(num_tokens);
    input.batch.block_tables.push_back(0);
    input.batch.logit_rows.push_back(static_cast<int32_t>(input.batch.tokens.size()) - 1);
    sampling::RowTask& task = input.rows.emplace_back();
    task.params = &params;
    task.num_logprobs = num_logprobs;
  }
  input.batch.max_blocks = 1;
}

Result<void> ModelExecutor::try_step(int32_t num_sequences, int32_t num_tokens,
                                     int32_t num_logprobs) {
  StepInput input;
  make_step(num_sequences, num_tokens, num_logprobs, input);
  if (auto launched = launch(input); !launched) return launched;
  if (auto results = collect(); !results) return std::unexpected(results.error());
  return {};
}

// Two steps under way, the second with the token that the first one draws.
Result<void> ModelExecutor::try_overlap() {
  StepInput first;
  StepInput second;
  make_step(1, 1, kNoLogprobs, first);
  make_step(1, 1, kNoLogprobs, second);
  second.batch.tokens = {-1};
  for (StepInput* input : {&first, &second}) {
    if (auto launched = launch(*input); !launched) return launched;
  }
  for (int i = 0; i < 2; ++i) {
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

Result<void> ModelExecutor::launch(StepInput& input) {
  if (sampler_ == nullptr) {
    input_ = &input;
    return {};
  }
  const model::StepBatch& batch = input.batch;
  last_tokens_.clear();
  for (const int32_t row : batch.logit_rows) {
    last_tokens_.push_back(batch.tokens[static_cast<size_t>(row)]);
  }
  const auto logits = runner_->start(batch, [&](const at::Tensor& tokens) {
    const observability::ProfiledPart part(profiler_, "sampling");
    sampler_->feed(tokens);
    sampler_->prepare(input.rows, last_tokens_);
  });
  if (!logits) return explained(logits.error());
  const observability::ProfiledPart part(profiler_, "sampling");
  try {
    sampler_->start(*logits);
  } catch (const std::exception& exception) {
    return explained(runner_->failed(exception).error());
  }
  return {};
}

Result<std::span<sampling::RowResult>> ModelExecutor::collect() {
  if (sampler_ == nullptr) return compute();
  const observability::ProfiledPart part(profiler_, "sampling");
  try {
    return sampler_->finish();
  } catch (const std::exception& exception) {
    return explained(runner_->failed(exception).error());
  }
}

Result<std::span<sampling::RowResult>> ModelExecutor::compute() {
  const kernels::ComputeScope scope(*pool_);
  const auto logits = runner_->start(input_->batch);
  if (!logits) return explained(logits.error());
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
