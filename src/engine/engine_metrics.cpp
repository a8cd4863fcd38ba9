#include "engine/engine_metrics.h"

#include <string>

namespace sluice::engine {
namespace {

using observability::Histogram;
using observability::Registry;

// Upper bounds in seconds. A step of the null model takes microseconds, one of a large model over a
// long prompt seconds.
constexpr double kStepSeconds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                   0.1,    0.25,    0.5,    1,     2.5,    5,     10,   30,    60};
// What a reader sees between two tokens; 50 ms are 20 tokens a second.
constexpr double kGapSeconds[] = {0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02,
                                  0.03,  0.04,   0.05,  0.075,  0.1,  0.15,  0.2,
                                  0.3,   0.5,    1,     2.5,    5,    10,    30};
constexpr double kFirstTokenSeconds[] = {0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15,
                                         0.25,  0.5,  0.75,  1,    1.5,   2.5, 5,
                                         7.5,   10,   15,    30,   60,    120, 300};
constexpr double kQueueSeconds[] = {0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                    1,      2.5,   5,     10,   30,    60,   120, 300};
constexpr double kRequestSeconds[] = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,   2.5, 5,
                                      10,   15,    20,   30,  45,   60,  120, 300, 600};
constexpr double kCounts[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};

Histogram& histogram(Registry& registry, const std::string& model, const char* name,
                     const char* help, std::span<const double> upper_bounds) {
  return registry.histogram({name, help, {{"model", model}}},
                            {upper_bounds.begin(), upper_bounds.end()});
}

}  // namespace

ModelMetrics::ModelMetrics(Registry& registry, const std::string& model)
    : step_duration(histogram(registry, model, "sluice_step_duration_seconds",
                              "Time of a whole engine step.", kStepSeconds)),
      step_tokens(histogram(registry, model, "sluice_step_tokens",
                            "Tokens computed in a step, prompts' and generated.", kCounts)),
      step_sequences(histogram(registry, model, "sluice_step_sequences",
                               "Sequences that took part in a step.", kCounts)),
      prompt_tokens(registry.counter({"sluice_prompt_tokens_total",
                                      "Prompt tokens of accepted requests.",
                                      {{"model", model}}})),
      generated_tokens(registry.counter(
          {"sluice_generated_tokens_total", "Tokens generated.", {{"model", model}}})),
      queue_duration(histogram(registry, model, "sluice_request_queue_seconds",
                               "From a request's acceptance to its first step.", kQueueSeconds)),
      time_to_first_token(histogram(registry, model, "sluice_time_to_first_token_seconds",
                                    "From a request's acceptance to its first token.",
                                    kFirstTokenSeconds)),
      inter_token_latency(histogram(registry, model, "sluice_inter_token_latency_seconds",
                                    "Between two tokens of one sequence.", kGapSeconds)),
      request_duration(histogram(registry, model, "sluice_request_duration_seconds",
                                 "From a request's acceptance to its end.", kRequestSeconds)) {
  for (size_t i = 0; i < kNumReasons; ++i) {
    finished_[i] = &registry.counter(
        {"sluice_requests_finished_total",
         "Accepted requests that ended, by finish reason.",
         {{"model", model}, {"reason", to_string(static_cast<FinishReason>(i))}}});
  }
}

EngineMetrics::EngineMetrics(Registry& registry, std::span<const ServedModel> models)
    : refused_(registry, "sluice_requests_refused_total",
               "Requests that the engine did not accept, by error code.") {
  for (const ServedModel& model : models) models_.emplace_back(registry, model.info.name);
}

void TokenTally::add_gap(base::Duration gap) {
  if (gap != gap_ && num_gaps_ > 0) {
    metrics_.inter_token_latency.observe(base::in_seconds(gap_), num_gaps_);
    num_gaps_ = 0;
  }
  gap_ = gap;
  ++num_gaps_;
}

void TokenTally::flush() {
  if (num_gaps_ > 0) metrics_.inter_token_latency.observe(base::in_seconds(gap_), num_gaps_);
  if (num_tokens_ > 0) metrics_.generated_tokens.add(num_tokens_);
  num_gaps_ = 0;
  num_tokens_ = 0;
}

}  // namespace sluice::engine
