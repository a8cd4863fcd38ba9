#include "tests/engine/scored_answer.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "tests/engine/waiting_observer.h"

namespace sluice::engine {

ScoredAnswer score(Service& service, std::vector<int64_t> prompt, int64_t max_tokens) {
  const size_t num_scored = prompt.size() - 1;
  GenerateRequest request;
  request.token_ids = std::move(prompt);
  request.max_tokens = max_tokens;
  request.temperature = 0;
  request.ignore_eos = true;
  request.prompt_logprobs = 0;
  const auto observer = std::make_shared<WaitingObserver>();
  EXPECT_TRUE(service.generate(std::move(request), observer).has_value());
  const auto& summary = observer->wait();
  EXPECT_TRUE(summary.has_value());
  ScoredAnswer answer;
  answer.profile = summary->profile;
  for (const GenerateChunk& chunk : observer->chunks()) {
    if (!chunk.is_prompt) {
      answer.tokens.insert(answer.tokens.end(), chunk.token_ids.begin(), chunk.token_ids.end());
      continue;
    }
    for (const PositionLogprobs& position : chunk.logprobs) {
      answer.prompt_logprobs.push_back(position.token.logprob);
    }
  }
  EXPECT_FALSE(answer.prompt_logprobs.empty());
  if (!answer.prompt_logprobs.empty()) answer.prompt_logprobs.erase(answer.prompt_logprobs.begin());
  EXPECT_EQ(answer.prompt_logprobs.size(), num_scored);
  return answer;
}

}  // namespace sluice::engine
