#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace sluice::sampling {

// How the next token is drawn: checked values, defaults applied (the validator makes these).
//
// In this order: penalties and bias change the logits, temperature divides them, then top-k, top-p
// and min-p cut the distribution, then one draw. sampler.h defines each step exactly.
struct SamplingParams {
  float temperature = 1.0f;  // below kGreedyTemperature: the most likely token, nothing is drawn
  float top_p = 1.0f;        // (0, 1]; 1 is off
  int32_t top_k = 0;         // 0 is off
  float min_p = 0.0f;        // [0, 1]; 0 is off
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  std::vector<std::pair<int32_t, float>> logit_bias;  // by token id, ascending, unique
  uint64_t seed = 0;
  int32_t num_logprobs = -1;         // top-N of generated tokens; -1: none asked
  int32_t num_prompt_logprobs = -1;  // top-N of prompt tokens; -1: none asked
};

inline constexpr float kGreedyTemperature = 1e-5f;

}  // namespace sluice::sampling
