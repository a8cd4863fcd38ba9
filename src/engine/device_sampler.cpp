#include "engine/device_sampler.h"

#include <algorithm>
#include <cstring>

namespace sluice::engine {
namespace {

using kernels::cuda::SampleArgs;
using kernels::cuda::SampleFault;
using kernels::cuda::SampleResult;
using kernels::cuda::SampleRow;
using kernels::cuda::SampleScore;

// Lists begin at multiples of so many bytes.
constexpr size_t kAlignment = 256;

size_t aligned(size_t num_bytes) {
  return (num_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

template <typename T>
size_t aligned_bytes(const std::vector<T>& list) {
  return aligned(list.size() * sizeof(T));
}

template <typename T>
void copy_list(const std::vector<T>& list, std::byte*& to) {
  if (!list.empty()) std::memcpy(to, list.data(), list.size() * sizeof(T));
  to += aligned_bytes(list);
}

// The list's place on the device, and the next one's behind it.
template <typename T>
const T* place_of(const std::vector<T>& list, const std::byte*& at) {
  const auto* place = reinterpret_cast<const T*>(at);
  at += aligned_bytes(list);
  return place;
}

sampling::RowFault fault_of(SampleFault fault) {
  switch (fault) {
    case SampleFault::kNone:
      return sampling::RowFault::kNone;
    case SampleFault::kNotFinite:
      return sampling::RowFault::kNotFinite;
    case SampleFault::kNothingLeft:
      break;
  }
  return sampling::RowFault::kNothingLeft;
}

}  // namespace

void DeviceSampler::add_lists(const sampling::RowTask& task, SampleRow& row) {
  row.first_count = static_cast<int32_t>(counts_.size());
  row.first_bias = static_cast<int32_t>(biases_.size());
  row.first_forbidden = static_cast<int32_t>(forbidden_.size());
  if (task.scored_token >= 0) return;
  if (sampling::uses_counts(*task.params)) {
    for (const auto& [token_id, num_generated] : task.counts->entries()) {
      counts_.push_back({token_id, num_generated});
    }
  }
  for (const auto& [token_id, bias] : task.params->logit_bias) biases_.push_back({token_id, bias});
  forbidden_.insert(forbidden_.end(), task.forbidden.begin(), task.forbidden.end());
  const auto first = forbidden_.begin() + row.first_forbidden;
  std::sort(first, forbidden_.end());
  forbidden_.erase(std::unique(first, forbidden_.end()), forbidden_.end());
  row.num_counts = static_cast<int32_t>(counts_.size()) - row.first_count;
  row.num_biases = static_cast<int32_t>(biases_.size()) - row.first_bias;
  row.num_forbidden = static_cast<int32_t>(forbidden_.size()) - row.first_forbidden;
}

void DeviceSampler::describe(std::span<const sampling::RowTask> tasks) {
  rows_.clear();
  counts_.clear();
  biases_.clear();
  forbidden_.clear();
  num_top_ = 0;
  draws_ = false;
  scores_ = false;
  for (const sampling::RowTask& task : tasks) {
    const sampling::SamplingParams& params = *task.params;
    SampleRow& row = rows_.emplace_back();
    row.temperature = params.temperature < sampling::kGreedyTemperature ? 0 : params.temperature;
    row.top_p = params.top_p;
    row.min_p = params.min_p;
    row.top_k = params.top_k;
    row.repetition_penalty = params.repetition_penalty;
    row.presence_penalty = params.presence_penalty;
    row.frequency_penalty = params.frequency_penalty;
    row.completion_index = task.completion_index;
    row.position = task.position;
    row.scored_token = task.scored_token;
    row.num_logprobs = task.num_logprobs;
    row.first_top = num_top_;
    row.seed = params.seed;
    add_lists(task, row);
    num_top_ += std::max(task.num_logprobs, 0);
    draws_ = draws_ || (task.scored_token < 0 && row.temperature > 0);
    scores_ = scores_ || task.scored_token >= 0 || task.num_logprobs >= 0;
  }
}

SampleArgs DeviceSampler::upload() {
  const size_t num_bytes = aligned_bytes(rows_) + aligned_bytes(counts_) + aligned_bytes(biases_) +
                           aligned_bytes(forbidden_);
  if (!input_.defined() || input_.nbytes() < num_bytes) {
    input_ = device_.allocate({static_cast<int64_t>(2 * num_bytes)}, at::kByte);
  }
  std::byte* const staging = device_.staging(kernels::Staging::kSampling, num_bytes);
  std::byte* to = staging;
  copy_list(rows_, to);
  copy_list(counts_, to);
  copy_list(biases_, to);
  copy_list(forbidden_, to);
  device_.copy_to(input_, staging, num_bytes);
  SampleArgs args;
  const auto* at = static_cast<const std::byte*>(input_.const_data_ptr());
  args.rows = place_of(rows_, at);
  args.counts = place_of(counts_, at);
  args.biases = place_of(biases_, at);
  args.forbidden = place_of(forbidden_, at);
  return args;
}

void DeviceSampler::take(const sampling::RowTask& task, const SampleRow& row, const std::byte* data,
                         sampling::RowResult& result) const {
  SampleResult drawn;
  const auto row_idx = static_cast<size_t>(&row - rows_.data());
  std::memcpy(&drawn, data + row_idx * sizeof(SampleResult), sizeof(SampleResult));
  result.fault = fault_of(drawn.fault);
  result.token_id = drawn.token_id;
  if (result.fault != sampling::RowFault::kNone || task.num_logprobs < 0) return;
  result.logprob = drawn.logprob;
  result.top.clear();
  const std::byte* scores = data + aligned(rows_.size() * sizeof(SampleResult)) +
                            static_cast<size_t>(row.first_top) * sizeof(SampleScore);
  for (int32_t i = 0; i < drawn.num_top; ++i, scores += sizeof(SampleScore)) {
    SampleScore score;
    std::memcpy(&score, scores, sizeof(SampleScore));
    result.top.push_back({score.token_id, score.logprob});
  }
}

void DeviceSampler::sample(const at::Tensor& logits, std::span<const sampling::RowTask> tasks,
                           std::span<sampling::RowResult> results) {
  if (tasks.empty()) return;
  describe(tasks);
  const size_t result_bytes = aligned(rows_.size() * sizeof(SampleResult));
  const size_t num_bytes = result_bytes + static_cast<size_t>(num_top_) * sizeof(SampleScore);
  if (!output_.defined() || output_.nbytes() < num_bytes) {
    output_ = device_.allocate({static_cast<int64_t>(2 * num_bytes)}, at::kByte);
  }
  SampleArgs args = upload();
  auto* output = static_cast<std::byte*>(output_.data_ptr());
  args.logits = logits.const_data_ptr<float>();
  args.results = reinterpret_cast<SampleResult*>(output);
  args.top = reinterpret_cast<SampleScore*>(output + result_bytes);
  args.num_rows = static_cast<int64_t>(rows_.size());
  args.vocabulary_size = logits.size(1);
  args.draws = draws_;
  args.scores = scores_;
  args.workspace = device_.workspace(device_.api().sample_workspace(args));
  device_.run(device_.api().sample, args);
  const std::byte* data = device_.download_bytes(output_, num_bytes);
  for (size_t i = 0; i < tasks.size(); ++i) take(tasks[i], rows_[i], data, results[i]);
}

}  // namespace sluice::engine
