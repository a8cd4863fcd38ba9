#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sluice/service.h"

namespace sluice::engine {

// What the only model of a service says to a prompt, greedily.
struct ScoredAnswer {
  std::string profile;
  std::vector<int32_t> tokens;
  std::vector<double> prompt_logprobs;  // of all its tokens but the first
};
ScoredAnswer score(Service& service, std::vector<int64_t> prompt, int64_t max_tokens);

}  // namespace sluice::engine
