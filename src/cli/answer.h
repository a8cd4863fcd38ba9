#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sluice/error.h"
#include "sluice/generation.h"

namespace sluice::cli {

// One completion, put together from its chunks.
struct Completion {
  std::string text;                // with the prompt's in front, if the request asked for echo
  std::vector<int32_t> token_ids;  // likewise
  std::vector<PositionLogprobs> logprobs;         // of the completion's tokens
  std::vector<PositionLogprobs> prompt_logprobs;  // empty if not asked for
  int32_t num_tokens = 0;                         // generated
  std::optional<FinishReason> finish_reason;
  std::optional<std::string> stop_reason;
};

// All completions of one request, by index.
struct Answer {
  std::vector<Completion> completions;
  bool has_logprobs = false;  // the request asked for them

  explicit Answer(const GenerateRequest& request);
  void add(const GenerateChunk& chunk);
};

// One JSON line a completion:
//   {"index","completion" (only if the request made several),"text","token_ids","logprobs",
//    "prompt_logprobs" (only if asked for),"finish_reason","stop_reason" (only if there is one),
//    "usage":{"prompt_tokens","cached_tokens","completion_tokens"},"seed","profile","digest"}
// Usage counts this line's completion. No times: equal requests give equal lines. A logprob has
// about the fewest digits that give the same float back.
std::string answer_lines(int64_t index, const Answer& answer, const GenerateSummary& summary);

// {"index","error":{"code","message"}}
std::string error_line(int64_t index, const Error& error);

}  // namespace sluice::cli
