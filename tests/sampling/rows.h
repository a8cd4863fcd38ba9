#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "sampling/sampler.h"

// Rows of logits for the sampler's tests, and one-row calls.
namespace sluice::sampling {

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Normal logits; with `step` > 0 rounded to its multiples, so that many tie.
inline std::vector<float> random_row(int32_t size, float spread, uint32_t seed, float step = 0) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> row(static_cast<size_t>(size));
  for (float& x : row) {
    x = normal(engine);
    if (step > 0) x = std::round(x / step) * step;
  }
  return row;
}

inline RowTask task_of(std::vector<float>& row, const SamplingParams& params) {
  RowTask task;
  task.logits = row.data();
  task.params = &params;
  return task;
}

inline RowResult sample_one(const RowTask& task, int32_t vocabulary_size) {
  RowResult result;
  sample_rows({&task, 1}, vocabulary_size, {&result, 1});
  return result;
}

inline RowResult sample_one(std::vector<float>& row, const SamplingParams& params,
                            uint32_t position = 0) {
  RowTask task = task_of(row, params);
  task.position = position;
  return sample_one(task, static_cast<int32_t>(row.size()));
}

}  // namespace sluice::sampling
