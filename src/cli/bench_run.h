#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "sluice/error.h"
#include "sluice/generation.h"
#include "sluice/runtime.h"
#include "sluice/service.h"

namespace sluice::cli {

// What the offline benchmark measures and how often.
struct BenchOptions {
  int32_t prompt_tokens = 128;
  int32_t output_tokens = 50;
  int32_t repetitions = 5;
  uint64_t seed = 1;
  bool greedy = false;
  double temperature = 0.7;  // unless greedy
  double top_p = 0.9;
};

// Random token ids in [0, vocabulary_size), the same for the same seed and stream everywhere.
std::vector<int64_t> random_prompt(uint64_t seed, uint64_t stream, int32_t num_tokens,
                                   int32_t vocabulary_size);

// A request of the benchmark: fixed length, fixed seed.
GenerateRequest bench_request(const BenchOptions& options, uint64_t stream,
                              int32_t vocabulary_size);

// When the tokens of one stream came.
struct StreamTimes {
  std::vector<std::chrono::steady_clock::time_point> tokens;  // one entry per token
  std::vector<int32_t> token_ids;
};

// All streams of one run, submitted at once.
struct BenchRun {
  std::chrono::steady_clock::time_point start;
  std::vector<StreamTimes> streams;
  StepStatistics steps;
};

// Runs `concurrency` streams, stream i with prompt `first_stream` + i. kInternal if a stream does
// not give exactly options.output_tokens tokens: a wrong result has no speed.
Result<BenchRun> run_streams(Service& service, const BenchOptions& options, int32_t concurrency,
                             uint64_t first_stream);

// Figures of one run.
//   prefill: prompt tokens of all streams / time from the start until every stream has a token.
//   decode:  tokens of all streams that came while every stream was decoding (after the last first
//            token, up to the first stream's end) / that time. So neither the prefill nor the
//            ragged end counts. 0 if there is no such time (one output token, or streams that do
//            not overlap).
struct BenchFigures {
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  std::vector<double> ttft_ms;  // of each stream
  std::vector<double> itl_ms;   // between tokens of a stream; tokens of one chunk share its time
};
BenchFigures figures(const BenchRun& run, int32_t prompt_tokens);

}  // namespace sluice::cli
