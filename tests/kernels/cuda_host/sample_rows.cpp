#include "sample_rows.h"

#include <algorithm>
#include <bit>

#include "fibers.h"
#include "host_memory.h"
#include "kernels/cuda/device/kernels.h"

namespace sluice::kernels::cuda::host {
namespace {

using sampling::RowFault;
using sampling::RowResult;
using sampling::RowTask;
using sampling::SamplingParams;
using sampling::TokenCounts;

RowTask task_of(Row& row) {
  RowTask task;
  task.logits = row.logits.data();
  task.params = &row.params;
  task.counts = &row.counts;
  task.forbidden = row.forbidden;
  task.completion_index = row.completion_index;
  task.position = row.position;
  task.scored_token = row.scored_token;
  task.num_logprobs = row.num_logprobs;
  return task;
}

std::vector<RowResult> sample_on_host(std::vector<Row>& rows) {
  std::vector<RowTask> tasks;
  std::vector<TokenCounts> counts;
  counts.reserve(rows.size());
  for (Row& row : rows) {
    RowTask& task = tasks.emplace_back(task_of(row));
    if (row.being_drawn < 0) continue;
    counts.push_back(row.counts);
    counts.back().add_generated(row.being_drawn);
    task.counts = &counts.back();
  }
  std::vector<RowResult> results(rows.size());
  sampling::sample_rows(tasks, static_cast<int32_t>(rows[0].logits.size()), results);
  return results;
}

// The lists of all rows, one after the other.
struct Batch {
  std::vector<float> logits;
  std::vector<SampleRow> rows;
  std::vector<SampleCount> counts;
  std::vector<SampleBias> biases;
  std::vector<int32_t> forbidden;
  std::vector<SampleResult> previous;
  size_t num_top = 0;
  bool draws = false;
  bool scores = false;

  void add(const Row& row) {
    const SamplingParams& params = row.params;
    const bool is_greedy = params.temperature < sampling::kGreedyTemperature;
    SampleRow made{.temperature = is_greedy ? 0 : params.temperature,
                   .top_p = params.top_p,
                   .min_p = params.min_p,
                   .top_k = params.top_k,
                   .repetition_penalty = params.repetition_penalty,
                   .presence_penalty = params.presence_penalty,
                   .frequency_penalty = params.frequency_penalty,
                   .completion_index = row.completion_index,
                   .position = row.position,
                   .scored_token = row.scored_token,
                   .num_logprobs = row.num_logprobs,
                   .first_top = static_cast<int32_t>(num_top),
                   .seed = params.seed,
                   .first_count = static_cast<int32_t>(counts.size()),
                   .first_bias = static_cast<int32_t>(biases.size()),
                   .first_forbidden = static_cast<int32_t>(forbidden.size())};
    if (sampling::uses_counts(params)) {
      for (const auto& [id, number] : row.counts.entries()) counts.push_back({id, number});
    }
    made.num_counts = static_cast<int32_t>(counts.size()) - made.first_count;
    if (row.being_drawn >= 0) {
      counts.emplace_back();
      made.previous_row = static_cast<int32_t>(previous.size());
      previous.push_back({.token_id = row.being_drawn});
      previous.push_back({.fault = SampleFault::kNotFinite, .token_id = 0});  // another's
    }
    for (const auto& [id, bias] : params.logit_bias) biases.push_back({id, bias});
    forbidden.insert(forbidden.end(), row.forbidden.begin(), row.forbidden.end());
    made.num_biases = static_cast<int32_t>(biases.size()) - made.first_bias;
    made.num_forbidden = static_cast<int32_t>(forbidden.size()) - made.first_forbidden;
    num_top += static_cast<size_t>(std::max(0, row.num_logprobs));
    draws |= row.scored_token < 0 && !is_greedy;
    scores |= row.scored_token >= 0 || row.num_logprobs >= 0;
    rows.push_back(made);
    logits.insert(logits.end(), row.logits.begin(), row.logits.end());
  }
};

std::vector<RowResult> results_of(const Batch& batch, const std::vector<SampleResult>& found,
                                  const std::vector<SampleScore>& top) {
  std::vector<RowResult> results(found.size());
  for (size_t i = 0; i < found.size(); ++i) {
    results[i].fault = static_cast<RowFault>(found[i].fault);
    results[i].token_id = found[i].token_id;
    results[i].logprob = found[i].logprob;
    if (results[i].fault != RowFault::kNone) continue;
    for (int32_t n = 0; n < found[i].num_top; ++n) {
      const SampleScore& score = top[static_cast<size_t>(batch.rows[i].first_top + n)];
      results[i].top.push_back({score.token_id, score.logprob});
    }
  }
  return results;
}

bool same_bits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

}  // namespace

const DeviceApi& host_memory() {
  static const DeviceApi table = memory_api();
  return table;
}

std::vector<RowResult> sample_on_device(const std::vector<Row>& rows) {
  Batch batch;
  for (const Row& row : rows) batch.add(row);
  const Device logits(batch.logits);
  const Device device_rows(batch.rows);
  const Device counts(batch.counts);
  const Device biases(batch.biases);
  const Device forbidden(batch.forbidden);
  const Device previous(batch.previous);
  const Device<SampleResult> found(rows.size());
  const Device<SampleScore> top(batch.num_top);
  SampleArgs args{.logits = logits.data(),
                  .rows = device_rows.data(),
                  .counts = counts.data(),
                  .previous = batch.previous.empty() ? nullptr : previous.data(),
                  .biases = biases.data(),
                  .forbidden = forbidden.data(),
                  .results = found.data(),
                  .top = top.data(),
                  .num_rows = static_cast<int64_t>(rows.size()),
                  .vocabulary_size = static_cast<int64_t>(rows[0].logits.size()),
                  .draws = batch.draws,
                  .scores = batch.scores};
  const Device<std::byte> workspace(static_cast<size_t>(sample_workspace(args)));
  args.workspace = workspace.data();
  EXPECT_EQ(sample(args, nullptr), kSuccess) << last_failure();
  EXPECT_EQ(0, std::memcmp(logits.data(), batch.logits.data(), batch.logits.size() * 4))
      << "logits were changed";
  return results_of(batch, found.copy(), top.copy());
}

void expect_same(const RowResult& host, const RowResult& device, const Row& row) {
  ASSERT_EQ(host.fault, device.fault);
  if (host.fault != RowFault::kNone) return;
  ASSERT_EQ(host.token_id, device.token_id);
  if (row.scored_token < 0 && row.num_logprobs < 0) return;
  ASSERT_TRUE(same_bits(host.logprob, device.logprob)) << host.logprob << " " << device.logprob;
  ASSERT_EQ(host.top.size(), device.top.size());
  for (size_t i = 0; i < host.top.size(); ++i) {
    ASSERT_EQ(host.top[i].token_id, device.top[i].token_id) << "place " << i;
    ASSERT_TRUE(same_bits(host.top[i].logprob, device.top[i].logprob)) << "place " << i;
  }
}

std::string describe(const Row& row) {
  const SamplingParams& p = row.params;
  testing::Message text;
  text << "V " << row.logits.size() << " temperature " << p.temperature << " top_k " << p.top_k
       << " top_p " << p.top_p << " min_p " << p.min_p << " penalties " << p.repetition_penalty
       << " " << p.presence_penalty << " " << p.frequency_penalty << " biases "
       << p.logit_bias.size() << " forbidden " << row.forbidden.size() << " scored "
       << row.scored_token << " logprobs " << row.num_logprobs;
  return text.GetString();
}

void expect_host_equals_device(std::vector<Row>& rows) {
  const std::vector<RowResult> host = sample_on_host(rows);
  const std::vector<RowResult> device = sample_on_device(rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "row " << i << ": " << describe(rows[i]));
    ASSERT_NO_FATAL_FAILURE(expect_same(host[i], device[i], rows[i]));
  }
}

}  // namespace sluice::kernels::cuda::host
