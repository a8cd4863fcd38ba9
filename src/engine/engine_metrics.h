#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>

#include "base/clock.h"
#include "engine/served_model.h"
#include "observability/error_counter.h"
#include "observability/metrics.h"
#include "sluice/error.h"
#include "sluice/generation.h"

namespace sluice::engine {

// What the engine and the delivery of its output report about one model. docs/operations.md tells
// what each figure means.
//
// Threads: any; every write is a relaxed atomic operation or a few of them.
class ModelMetrics final {
 public:
  // `registry` must outlive this.
  ModelMetrics(observability::Registry& registry, const std::string& model);

  void finish(FinishReason reason) { finished_[static_cast<size_t>(reason)]->add(); }

  // Of every step; the engine's thread alone writes them.
  observability::Histogram& step_duration;
  observability::Histogram& step_tokens;
  observability::Histogram& step_sequences;
  // Of every request.
  observability::Counter& prompt_tokens;
  observability::Counter& generated_tokens;
  observability::Histogram& queue_duration;
  observability::Histogram& time_to_first_token;
  observability::Histogram& inter_token_latency;
  observability::Histogram& request_duration;
  // Completions accepted that the engine has not taken in yet.
  std::atomic<int32_t> num_arriving{0};

 private:
  static constexpr size_t kNumReasons = static_cast<size_t>(FinishReason::kError) + 1;
  std::array<observability::Counter*, kNumReasons> finished_;
};

// The metrics of an engine: of each model, and of the requests that no model got.
//
// Threads: any.
class EngineMetrics final {
 public:
  // `registry` must outlive this.
  EngineMetrics(observability::Registry& registry, std::span<const ServedModel> models);

  ModelMetrics& model(size_t model_idx) { return models_[model_idx]; }
  void refuse(ErrorCode code) { refused_.add(code); }

 private:
  std::deque<ModelMetrics> models_;  // elements never move
  observability::ErrorCounter refused_;
};

// What one hand-over's tokens of a model have in common, added up: the sequences of a step get
// their tokens at the same moments, so hundreds of tokens cost a few atomic operations.
//
// Threads: one.
class TokenTally final {
 public:
  explicit TokenTally(ModelMetrics& metrics) : metrics_(metrics) {}

  void add_token() { ++num_tokens_; }
  // The time since the stream's last token.
  void add_gap(base::Duration gap);
  void flush();

 private:
  ModelMetrics& metrics_;
  int64_t num_tokens_ = 0;
  base::Duration gap_{0};
  int64_t num_gaps_ = 0;
};

}  // namespace sluice::engine
