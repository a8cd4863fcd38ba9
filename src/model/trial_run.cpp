#include "model/trial_run.h"

#include <algorithm>
#include <cstdio>
#include <span>
#include <string>

#include "kernels/compute.h"

namespace sluice::model {
namespace {

// The last tokens of a sequence run as steps of their own: few, since each reads the whole model.
constexpr size_t kDecodedTokens = 2;

// A step of one sequence, whose blocks lie in the pool from the last to the first.
StepBatch make_step(std::span<const int32_t> tokens, size_t position, int32_t num_blocks) {
  StepBatch batch;
  const auto length = static_cast<int32_t>(tokens.size());
  batch.tokens.assign(tokens.begin(), tokens.end());
  for (int32_t i = 0; i < length; ++i) {
    batch.positions.push_back(static_cast<int32_t>(position) + i);
    batch.logit_rows.push_back(i);
  }
  batch.sequence_starts = {0, length};
  batch.context_lengths = {static_cast<int32_t>(position) + length};
  for (int32_t block = num_blocks - 1; block >= 0; --block) batch.block_tables.push_back(block);
  batch.max_blocks = num_blocks;
  return batch;
}

bool has_8_bits(const ModelRunner& runner) {
  return !runner.config().encoding.is_plain() || runner.kv_format() != kernels::KvFormat::kModel;
}

std::string three_digits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

}  // namespace

Result<std::vector<std::vector<float>>> run_trial(ModelRunner& runner,
                                                  const std::vector<int32_t>& token_ids,
                                                  const std::vector<int32_t>& columns,
                                                  int32_t block_size) {
  const auto num_blocks =
      static_cast<int32_t>((std::ssize(token_ids) + block_size - 1) / block_size);
  if (auto allocated = runner.allocate_kv(num_blocks); !allocated) {
    return std::unexpected(allocated.error());
  }
  std::vector<std::vector<float>> rows;
  const size_t num_prefilled = token_ids.size() - std::min(kDecodedTokens, token_ids.size() - 1);
  while (rows.size() < token_ids.size()) {
    const size_t begin = rows.size();
    const size_t count = begin == 0 ? num_prefilled : 1;
    const auto logits =
        runner.forward(make_step(std::span(token_ids).subspan(begin, count), begin, num_blocks));
    if (!logits) return std::unexpected(logits.error());
    const auto* values = logits->const_data_ptr<float>();
    for (size_t row = 0; row < count; ++row, values += runner.config().vocabulary_size) {
      std::vector<float>& kept = rows.emplace_back();
      for (const int32_t column : columns) kept.push_back(values[column]);
    }
  }
  return rows;
}

Result<GoldenLogits> make_golden(ModelRunner& runner, int32_t block_size) {
  const auto profile = kernels::cpu_profile();
  if (!profile) return std::unexpected(profile.error());
  GoldenLogits golden = plan_golden(runner.config());
  auto logits = run_trial(runner, golden.token_ids, golden.columns, block_size);
  if (!logits) return std::unexpected(logits.error());
  golden.profile = *profile;
  golden.logits = *std::move(logits);
  return golden;
}

Result<void> check_golden(ModelRunner& runner, const GoldenLogits& golden, int32_t block_size) {
  const ModelConfig& config = runner.config();
  std::vector<int32_t> token_ids = golden.token_ids;
  token_ids.resize(std::min(token_ids.size(), static_cast<size_t>(config.context_length)));
  const auto logits = run_trial(runner, token_ids, golden.columns, block_size);
  if (!logits) return std::unexpected(logits.error());
  const double difference = golden_difference(golden, *logits);
  const double bound = golden_bound({config.num_layers, config.dtype != "f32", has_8_bits(runner)});
  if (difference <= bound) return {};
  return fail(ErrorCode::kFailedPrecondition,
              std::string(kGoldenFile) + ": the logits of " + std::to_string(token_ids.size()) +
                  " tokens differ from those of the import (" + golden.profile + ") by " +
                  three_digits(difference) + " of their spread, and " + three_digits(bound) +
                  " is allowed: this build or this machine computes something else (without that "
                  "file the model is served unchecked)");
}

}  // namespace sluice::model
