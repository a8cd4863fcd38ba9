#include "sampling/sampler.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>

#include "kernels/compute.h"
#include "kernels/philox.h"
#include "sampling/draw.h"
#include "sampling/row.h"

namespace sluice::sampling {
namespace {

// What one thread reuses from row to row.
struct Workspace {
  Row row;
  Drawer drawer;
  std::vector<std::pair<int32_t, float>> edits;   // id, logit before
  std::vector<std::pair<int32_t, int32_t>> best;  // key, id
};

Workspace& workspace() {
  thread_local Workspace work;
  return work;
}

void edit(Workspace& work, float* logits, int32_t token_id, float value) {
  work.edits.emplace_back(token_id, logits[token_id]);
  logits[token_id] = value;
}

// Step 1 of sampler.h.
void apply_penalties(Workspace& work, const RowTask& task) {
  const SamplingParams& params = *task.params;
  work.edits.clear();
  if (uses_counts(params)) {
    for (const TokenCounts::Entry& entry : task.counts->entries()) {
      float x = task.logits[entry.token_id];
      x = x > 0 ? x / params.repetition_penalty : x * params.repetition_penalty;
      if (entry.num_generated > 0) {
        x -= params.frequency_penalty * static_cast<float>(entry.num_generated);
        x -= params.presence_penalty;
      }
      edit(work, task.logits, entry.token_id, x);
    }
  }
  for (const auto& [token_id, bias] : params.logit_bias) {
    edit(work, task.logits, token_id, task.logits[token_id] + bias);
  }
  for (const int32_t token_id : task.forbidden) {
    edit(work, task.logits, token_id, -std::numeric_limits<float>::infinity());
  }
}

void undo_edits(Workspace& work, float* logits) {
  for (auto it = work.edits.rbegin(); it != work.edits.rend(); ++it) logits[it->first] = it->second;
}

// A row that has nothing although no edit took it away is the model's fault, not the request's.
RowFault fault_of(const Row& row, bool is_edited) {
  if (!row.is_finite_or_minus_infinity()) return RowFault::kNotFinite;
  if (row.has_anything()) return RowFault::kNone;
  return is_edited ? RowFault::kNothingLeft : RowFault::kNotFinite;
}

// max x + ln(sum of w) of the scanned row.
double log_normalizer(const Row& row) {
  const WeightScale scale{row.max(), 1.0f};
  uint64_t total = 0;
  for (int32_t g = 0; g < row.num_groups(); ++g) {
    const auto part = row.group(g);
    total += row_kernels().weigh_all(part.data(), static_cast<int>(part.size()), scale);
  }
  constexpr double kUnit = 1.0 / static_cast<double>(uint64_t{1} << kMassBits);
  return static_cast<double>(row.max()) + natural_log(static_cast<double>(total) * kUnit);
}

void find_best(Workspace& work, int32_t count) {
  Row& row = work.row;
  const int32_t lowest = row.key_reached_by(count);
  work.best.clear();
  for (int32_t g = 0; g < row.num_groups(); ++g) {
    if (row.group_key(g) < lowest) continue;
    const auto part = row.group(g);
    for (size_t i = 0; i < part.size(); ++i) {
      const int32_t key = key_of(part[i]);
      if (key >= lowest) work.best.emplace_back(key, g * kGroup + static_cast<int32_t>(i));
    }
  }
  const auto end = work.best.begin() + std::min<std::ptrdiff_t>(count, std::ssize(work.best));
  std::partial_sort(work.best.begin(), end, work.best.end(), [](const auto& a, const auto& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  });
  work.best.erase(end, work.best.end());
}

// Requires: work.row was scanned over the model's own logits.
void fill_logprobs(Workspace& work, const RowTask& task, RowResult& result) {
  const double normalizer = log_normalizer(work.row);
  const auto logprob = [&](int32_t token_id) {
    return static_cast<float>(static_cast<double>(task.logits[token_id]) - normalizer);
  };
  result.logprob = logprob(result.token_id);
  result.top.clear();
  if (task.num_logprobs <= 0) return;
  find_best(work, task.num_logprobs);
  for (const auto& [key, token_id] : work.best) {
    result.top.push_back({token_id, logprob(token_id)});
  }
}

int32_t draw_token(Workspace& work, const RowTask& task) {
  if (task.params->temperature < kGreedyTemperature) return work.row.argmax();
  const uint64_t bits =
      kernels::random_bits(task.params->seed, task.completion_index, task.position);
  return work.drawer.draw(work.row, *task.params, bits);
}

void sample_row(Workspace& work, const RowTask& task, int32_t vocabulary_size, RowResult& result) {
  const std::span<const float> logits(task.logits, static_cast<size_t>(vocabulary_size));
  result.token_id = task.scored_token;
  if (task.scored_token < 0) {
    apply_penalties(work, task);
    work.row.scan(logits);
    result.fault = fault_of(work.row, !work.edits.empty());
    if (result.fault == RowFault::kNone) result.token_id = draw_token(work, task);
    undo_edits(work, task.logits);
    if (result.fault != RowFault::kNone || task.num_logprobs < 0) return;
  }
  if (task.scored_token >= 0 || !work.edits.empty()) {
    work.row.scan(logits);
    result.fault = fault_of(work.row, false);
    if (result.fault != RowFault::kNone) return;
  }
  fill_logprobs(work, task, result);
}

}  // namespace

bool uses_counts(const SamplingParams& params) {
  return params.repetition_penalty != 1 || params.presence_penalty != 0 ||
         params.frequency_penalty != 0;
}

void reserve_for_rows(kernels::ThreadPool& pool, int32_t vocabulary_size) {
  constexpr size_t kEdits = 4096;
  pool.run_on_each([vocabulary_size] {
    Workspace& work = workspace();
    work.row.reserve(vocabulary_size);
    work.drawer.reserve(vocabulary_size);
    work.edits.reserve(kEdits);
    work.best.reserve(kEdits);
  });
}

void sample_rows(std::span<const RowTask> tasks, int32_t vocabulary_size,
                 std::span<RowResult> results) {
  auto row = [&](int64_t i) {
    results[i].fault = RowFault::kNone;
    sample_row(workspace(), tasks[i], vocabulary_size, results[i]);
  };
  kernels::parallel_for(static_cast<int64_t>(tasks.size()), std::ref(row));
}

}  // namespace sluice::sampling
