#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/load_plan.h"
#include "cli/load_run.h"

namespace sluice::cli {

// What a request must meet to count as goodput.
struct LoadGoals {
  std::chrono::nanoseconds ttft = std::chrono::seconds(1);
  std::chrono::nanoseconds itl = std::chrono::milliseconds(100);  // mean, of one request
};

// Figures of a load; of requests that succeeded unless it says otherwise.
struct LoadFigures {
  int64_t num_succeeded = 0;
  int64_t num_failed = 0;   // refused ones too
  int64_t num_refused = 0;  // for want of room, before any output
  int64_t num_dropped = 0;
  double seconds = 0;
  double arrived_per_s = 0;  // requests, dropped ones too
  double goodput_per_s = 0;  // requests within both goals
  double tokens_per_s = 0;   // of all requests
  std::vector<double> ttft_ms;
  std::vector<double> gap_ms;    // between two messages of a stream, as a reader sees them
  std::vector<double> token_ms;  // mean time a token of a request, after its first message
  std::vector<double> total_ms;
  std::vector<double> refusal_ms;  // of refused requests: until they know
  std::string first_error;
};
LoadFigures load_figures(const LoadResult& result, const LoadGoals& goals);

std::string load_text(const LoadFigures& figures, const LoadGoals& goals);
std::string load_json(const LoadFigures& figures, const LoadOptions& options);

}  // namespace sluice::cli
