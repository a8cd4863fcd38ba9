// The sampler over 16 rows of BLOOM's vocabulary, beside the time that only reading the rows takes.
//
//   sampler_bench --benchmark_filter=top_p
//
// flat: normal logits of a small spread, where a cut keeps most of the vocabulary; spiked: the same
// with one token that has about half of all, as a model with random weights gives; peaked: normal
// logits of a large spread; tailed: logits that fall with the logarithm of their rank, as a trained
// model's. The rows are written anew before every call, as a model does,
// and only the call is timed. Exit code 1 if the median of a case that draws without logprobs needs
// 3 ms or more.
// SLUICE_BENCH_THREADS sets the number of threads; all cores by default.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "kernels/compute.h"
#include "machine.h"
#include "sampling/sampler.h"

namespace sluice::sampling {
namespace {

using benchmarks::pool;
using Clock = std::chrono::steady_clock;

constexpr int32_t kVocabulary = 250880;
constexpr int64_t kRows = 16;
constexpr double kLimitMs = 3;

bool any_too_slow = false;

enum class Shape : uint8_t { kFlat, kSpiked, kPeaked, kTailed };
constexpr std::pair<const char*, Shape> kShapes[] = {{"flat", Shape::kFlat},
                                                     {"spiked", Shape::kSpiked},
                                                     {"peaked", Shape::kPeaked},
                                                     {"tailed", Shape::kTailed}};

std::vector<float> make_row(Shape shape, std::mt19937& engine) {
  std::normal_distribution<float> normal(0, shape == Shape::kPeaked ? 3.0f : 0.5f);
  std::vector<float> row(kVocabulary);
  for (int32_t i = 0; i < kVocabulary; ++i) {
    row[i] = shape == Shape::kTailed ? -1.2f * std::log(1 + static_cast<float>(i)) : normal(engine);
  }
  if (shape == Shape::kTailed) std::shuffle(row.begin(), row.end(), engine);
  if (shape == Shape::kSpiked) row[engine() % kVocabulary] = 9.3f;
  return row;
}

// [kRows][kVocabulary]
const std::vector<float>& logits(Shape shape) {
  static std::map<Shape, std::vector<float>> made;
  std::vector<float>& rows = made[shape];
  if (!rows.empty()) return rows;
  std::mt19937 engine(1);
  for (int64_t i = 0; i < kRows; ++i) {
    const std::vector<float> row = make_row(shape, engine);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows;
}

// Seconds to read all rows once with all threads: the best of ten.
double read_time(const std::vector<float>& rows) {
  double best = 1;
  for (int round = 0; round < 10; ++round) {
    const auto begin = Clock::now();
    auto part = [&](int64_t row) {
      const float* x = rows.data() + row * kVocabulary;
      float sums[64] = {};
      for (int32_t i = 0; i + 64 <= kVocabulary; i += 64) {
        for (int lane = 0; lane < 64; ++lane) sums[lane] = std::max(sums[lane], x[i + lane]);
      }
      benchmark::DoNotOptimize(sums);
    };
    pool().run(kRows, std::ref(part));
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

void sample(benchmark::State& state, const SamplingParams& params, Shape shape) {
  const kernels::ComputeScope scope(pool());
  const std::vector<float>& source = logits(shape);
  std::vector<float> rows = source;
  TokenCounts counts;
  std::vector<int32_t> touched;
  for (int32_t id = 0; id < 512; ++id) touched.push_back(id * 487);
  counts.add_prompt(touched);
  std::vector<RowTask> tasks(kRows);
  for (int64_t i = 0; i < kRows; ++i) {
    tasks[i].logits = rows.data() + i * kVocabulary;
    tasks[i].params = &params;
    tasks[i].counts = &counts;
    tasks[i].num_logprobs = params.num_logprobs;
  }
  std::vector<RowResult> results(kRows);
  std::vector<double> times;
  uint32_t position = 0;
  for (auto _ : state) {
    auto copy = [&](int64_t row) {
      std::memcpy(rows.data() + row * kVocabulary, source.data() + row * kVocabulary,
                  kVocabulary * sizeof(float));
    };
    pool().run(kRows, std::ref(copy));
    for (RowTask& task : tasks) task.position = position;
    ++position;
    const auto begin = Clock::now();
    sample_rows(tasks, kVocabulary, results);
    const double time = std::chrono::duration<double>(Clock::now() - begin).count();
    state.SetIterationTime(time);
    times.push_back(time * 1e3);
  }
  for (const RowResult& result : results) {
    if (result.fault != RowFault::kNone) state.SkipWithError("a row was refused");
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2),
                   times.end());
  const double median = times[times.size() / 2];
  state.counters["median_ms"] = median;
  state.counters["of_read_limit"] = read_time(rows) * 1e3 / median;
  if (params.num_logprobs < 0 && median >= kLimitMs) any_too_slow = true;
}

void add(const std::string& name, const SamplingParams& params) {
  for (const auto& [kind, shape] : kShapes) {
    benchmark::RegisterBenchmark(
        (name + "/" + kind).c_str(),
        [params, shape](benchmark::State& state) { sample(state, params, shape); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  }
}

void add_all() {
  SamplingParams params;
  params.temperature = 0;
  add("greedy", params);
  params.temperature = 0.7f;
  add("plain", params);
  params.top_p = 0.9f;
  add("top_p", params);
  params.repetition_penalty = 1.1f;
  add("top_p_penalties", params);
  params.repetition_penalty = 1;
  params.top_k = 50;
  add("top_k_top_p", params);
  params.top_k = 100000;
  add("large_top_k_top_p", params);
  params.top_k = 0;
  params.top_p = 1;
  params.min_p = 0.05f;
  add("min_p", params);
  params.min_p = 0;
  params.top_p = 0.9f;
  params.num_logprobs = 20;
  add("top_p_logprobs", params);
}

}  // namespace
}  // namespace sluice::sampling

int main(int argc, char** argv) {
  const int status = sluice::benchmarks::run(argc, argv, sluice::sampling::add_all);
  if (status != 0 || !sluice::sampling::any_too_slow) return status;
  (void)std::fprintf(stderr, "a case without logprobs took %.0f ms or more\n",
                     sluice::sampling::kLimitMs);
  return 1;
}
