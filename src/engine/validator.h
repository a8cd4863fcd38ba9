#pragma once

#include <chrono>
#include <cstdint>

#include "base/clock.h"
#include "engine/live_request.h"
#include "engine/served_model.h"
#include "sluice/error.h"
#include "sluice/generation.h"
#include "sluice/service.h"

namespace sluice::engine {

// What a parameter may be; the same through every front end. The limits that can be configured are
// in ServiceLimits.
//
// | field                        | range                           | default          |
// |------------------------------|---------------------------------|------------------|
// | prompt, token_ids or chat    | exactly one; >= 1 token         | -                |
// | max_tokens                   | 1 .. context - prompt           | context - prompt |
// | min_tokens                   | 0 .. max_tokens                 | 0                |
// | n                            | 1 .. max_n                      | 1                |
// | temperature                  | 0 .. 1e38                       | 1                |
// | top_p                        | above 0, to 1                   | 1                |
// | top_k                        | 1 .. vocabulary; 0 or -1: off   | 0                |
// | min_p                        | 0 .. 1                          | 0                |
// | repetition_penalty           | 0.01 .. 100                     | 1                |
// | presence_, frequency_penalty | -2 .. 2                         | 0                |
// | logit_bias                   | -100 .. 100; -infinity: forbids | -                |
// | logprobs, prompt_logprobs    | 0 .. max_logprobs               | none             |
// | request_id                   | to 256 bytes of UTF-8           | drawn            |
// | ttft_ms, total_ms            | 1 .. 86,400,000 (a day)         | none             |
inline constexpr double kMaxTemperature = 1e38;
inline constexpr double kMinRepetitionPenalty = 0.01;
inline constexpr double kMaxRepetitionPenalty = 100;
inline constexpr double kMaxAdditivePenalty = 2;
inline constexpr double kMaxLogitBias = 100;
inline constexpr size_t kMaxRequestIdBytes = 256;
inline constexpr std::chrono::milliseconds kMaxTimeLimit = std::chrono::hours(24);

// Checks a request against its model and the limits, applies the defaults and tokenizes the prompt.
// kInvalidArgument: name, value and limit of the first thing that is wrong. kDeadlineExceeded: the
// deadline has passed. kFailedPrecondition: a chat, and the model has no chat template.
// Threads: any.
Result<CheckedRequest> check_request(GenerateRequest&& request, const ServedModel& model,
                                     const ServiceLimits& limits, base::TimePoint now);

// The checks that Service::tokenize and detokenize share with a prompt.
Result<void> check_text(const std::string& name, std::string_view text,
                        const ServiceLimits& limits);
Result<std::vector<int32_t>> check_token_ids(const std::vector<int64_t>& token_ids,
                                             const std::string& name, int32_t vocabulary_size);

}  // namespace sluice::engine
