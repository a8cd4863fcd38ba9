#include "engine/device_sampler.h"

#include <algorithm>
#include <cstring>

namespace sluice::engine {
namespace {

using kernels::cuda::CudaDevice;
using kernels::cuda::FeedTokensArgs;
using kernels::cuda::SampleArgs;
using kernels::cuda::SampleFault;
using kernels::cuda::SampleResult;
using kernels::cuda::SampleRow;
using kernels::cuda::SampleScore;

// A few bytes of the device, so that memory seldom grows: that costs what is recorded.
constexpr size_t kFewestBytes = size_t{1} << 20;

// Lists begin at multiples of so many bytes.
constexpr size_t kAlignment = 256;

size_t aligned(size_t num_bytes) {
  return (num_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

template <typename T>
size_t aligned_bytes(const std::vector<T>& list) {
  return aligned(list.size() * sizeof(T));
}

// The bytes are grown to twice what is needed.
void make_room(CudaDevice& device, size_t num_bytes, at::Tensor& bytes) {
  if (bytes.defined() && bytes.nbytes() >= num_bytes) return;
  bytes = device.allocate({static_cast<int64_t>(std::max(2 * num_bytes, kFewestBytes))}, at::kByte);
}

template <typename T>
void copy_list(const std::vector<T>& list, std::byte*& to) {
  if (!list.empty()) std::memcpy(to, list.data(), list.size() * sizeof(T));
  to += aligned_bytes(list);
}

// The list's place on the device, and the next one's behind it.
template <typename T>
T* place_of(const std::vector<T>& list, std::byte*& at) {
  auto* place = reinterpret_cast<T*>(at);
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

size_t result_bytes(size_t num_rows) {
  return aligned(num_rows * sizeof(SampleResult));
}

void take(const std::vector<SampleRow>& rows, size_t row_idx, const std::byte* data,
          sampling::RowResult& result) {
  const SampleRow& row = rows[row_idx];
  SampleResult drawn;
  std::memcpy(&drawn, data + row_idx * sizeof(SampleResult), sizeof(SampleResult));
  result.fault = fault_of(drawn.fault);
  result.token_id = drawn.token_id;
  if (result.fault != sampling::RowFault::kNone || row.num_logprobs < 0) return;
  result.logprob = drawn.logprob;
  result.top.clear();
  const std::byte* scores =
      data + result_bytes(rows.size()) + static_cast<size_t>(row.first_top) * sizeof(SampleScore);
  for (int32_t i = 0; i < drawn.num_top; ++i, scores += sizeof(SampleScore)) {
    SampleScore score;
    std::memcpy(&score, scores, sizeof(SampleScore));
    result.top.push_back({score.token_id, score.logprob});
  }
}

}  // namespace

DeviceSampler::DeviceSampler(kernels::cuda::CudaDevice& device)
    : device_(device), steps_{Step(device), Step(device)} {}

void DeviceSampler::add_lists(const sampling::RowTask& task, SampleRow& row) {
  row.first_count = static_cast<int32_t>(counts_.size());
  row.first_bias = static_cast<int32_t>(biases_.size());
  row.first_forbidden = static_cast<int32_t>(forbidden_.size());
  if (task.scored_token >= 0) return;
  if (sampling::uses_counts(*task.params)) {
    for (const auto& [token_id, num_generated] : task.counts->entries()) {
      counts_.push_back({token_id, num_generated});
    }
    row.num_counts = static_cast<int32_t>(counts_.size()) - row.first_count;
    if (row.previous_row >= 0) counts_.emplace_back();  // room for what it has drawn
  } else {
    row.previous_row = -1;
  }
  for (const auto& [token_id, bias] : task.params->logit_bias) biases_.push_back({token_id, bias});
  forbidden_.insert(forbidden_.end(), task.forbidden.begin(), task.forbidden.end());
  const auto first = forbidden_.begin() + row.first_forbidden;
  std::sort(first, forbidden_.end());
  forbidden_.erase(std::unique(first, forbidden_.end()), forbidden_.end());
  row.num_biases = static_cast<int32_t>(biases_.size()) - row.first_bias;
  row.num_forbidden = static_cast<int32_t>(forbidden_.size()) - row.first_forbidden;
}

void DeviceSampler::describe(std::span<const sampling::RowTask> tasks,
                             std::span<const int32_t> last_tokens, Step& step) {
  step.rows.clear();
  counts_.clear();
  biases_.clear();
  forbidden_.clear();
  num_top_ = 0;
  draws_ = false;
  scores_ = false;
  follows_ = false;
  for (size_t i = 0; i < tasks.size(); ++i) {
    const sampling::RowTask& task = tasks[i];
    const sampling::SamplingParams& params = *task.params;
    SampleRow& row = step.rows.emplace_back();
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
    row.previous_row = last_tokens[i] < 0 ? -1 - last_tokens[i] : -1;
    add_lists(task, row);
    follows_ = follows_ || row.previous_row >= 0;
    num_top_ += std::max(task.num_logprobs, 0);
    draws_ = draws_ || (task.scored_token < 0 && row.temperature > 0);
    scores_ = scores_ || task.scored_token >= 0 || task.num_logprobs >= 0;
  }
}

void DeviceSampler::upload(Step& step) {
  const size_t num_bytes = aligned_bytes(step.rows) + aligned_bytes(counts_) +
                           aligned_bytes(biases_) + aligned_bytes(forbidden_);
  make_room(device_, num_bytes, input_);
  std::byte* const staging = step.staging->room_for(num_bytes);
  std::byte* to = staging;
  copy_list(step.rows, to);
  copy_list(counts_, to);
  copy_list(biases_, to);
  copy_list(forbidden_, to);
  device_.copy_to(input_, staging, num_bytes);
  auto* at = static_cast<std::byte*>(input_.data_ptr());
  step.args.rows = place_of(step.rows, at);
  step.args.counts = place_of(counts_, at);
  step.args.biases = place_of(biases_, at);
  step.args.forbidden = place_of(forbidden_, at);
}

void DeviceSampler::feed(const at::Tensor& tokens) {
  if (num_under_way_ == 0) return;
  const Step& previous = steps_[1 - next_];
  FeedTokensArgs args;
  args.tokens = tokens.data_ptr<int32_t>();
  args.num_tokens = tokens.size(0);
  args.drawn = reinterpret_cast<const SampleResult*>(previous.output.const_data_ptr());
  args.num_drawn = std::ssize(previous.rows);
  device_.run(device_.api().feed_tokens, args);
}

void DeviceSampler::prepare(std::span<const sampling::RowTask> tasks,
                            std::span<const int32_t> last_tokens) {
  Step& step = steps_[next_];
  describe(tasks, last_tokens, step);
  step.args = {};
  if (!step.rows.empty()) upload(step);
}

void DeviceSampler::start(const at::Tensor& logits) {
  Step& step = steps_[next_];
  const size_t num_bytes =
      result_bytes(step.rows.size()) + static_cast<size_t>(num_top_) * sizeof(SampleScore);
  make_room(device_, num_bytes, step.output);
  if (!step.rows.empty()) {
    SampleArgs& args = step.args;
    auto* output = static_cast<std::byte*>(step.output.data_ptr());
    args.logits = logits.const_data_ptr<float>();
    args.results = reinterpret_cast<SampleResult*>(output);
    args.top = reinterpret_cast<SampleScore*>(output + result_bytes(step.rows.size()));
    if (follows_) {
      const at::Tensor& previous = steps_[1 - next_].output;
      args.previous = reinterpret_cast<const SampleResult*>(previous.const_data_ptr());
    }
    args.num_rows = std::ssize(step.rows);
    args.vocabulary_size = logits.size(1);
    args.draws = draws_;
    args.scores = scores_;
    args.workspace = device_.workspace(device_.api().sample_workspace(args));
    device_.run(device_.api().sample, args);
  }
  step.copy.start(step.output, num_bytes);
  next_ = 1 - next_;
  ++num_under_way_;
}

std::span<sampling::RowResult> DeviceSampler::finish() {
  Step& step = oldest();
  --num_under_way_;
  const std::byte* data = step.copy.wait();
  step.results.resize(step.rows.size());
  for (size_t i = 0; i < step.rows.size(); ++i) take(step.rows, i, data, step.results[i]);
  return step.results;
}

}  // namespace sluice::engine
