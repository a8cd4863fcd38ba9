#pragma once

#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "cli/bench_run.h"
#include "sluice/error.h"

namespace sluice::cli {

// Requests of one length, and how often they come beside the others.
struct LengthShare {
  int32_t prompt_tokens = 128;
  int32_t output_tokens = 50;
  double weight = 1;
};

// "128/50", or several with weights: "128/50*3,1024/200". kInvalidArgument.
Result<std::vector<LengthShare>> parse_mix(const std::string& text);

// What a load on a server is made of.
struct LoadOptions {
  double rate = 0;              // requests per second; 0: closed loop
  int32_t burst = 1;            // that arrive at once; `rate` counts all of them
  int32_t concurrency = 0;      // of the closed loop: a request begins when another one ends
  int32_t max_in_flight = 512;  // of the open loop: arrivals beyond it are dropped
  std::chrono::nanoseconds duration = std::chrono::seconds(30);
  std::vector<LengthShare> mix = std::vector<LengthShare>(1);
  bool has_text_prompts = false;  // words in place of token ids
  bool is_chat = false;           // the same as a user's message
  bool ends_naturally = false;    // at an end token too
  BenchOptions bench;             // seed and sampling
};

// The requests of a load in their order, and when they arrive: the same for the same seed.
class LoadPlan final {
 public:
  LoadPlan(const LoadOptions& options, std::string model, int32_t vocabulary_size);

  struct Arrival {
    double at_s = 0;  // from the start; 0 in a closed loop
    int32_t output_tokens = 0;
    GenerateRequest request;
  };
  Arrival next();

 private:
  void put_into_words(GenerateRequest& request) const;

  const LoadOptions options_;
  const std::string model_;
  const int32_t vocabulary_size_;
  std::mt19937_64 random_;
  std::exponential_distribution<double> gap_;
  std::discrete_distribution<size_t> share_;
  uint64_t num_made_ = 0;
  double at_s_ = 0;
};

}  // namespace sluice::cli
