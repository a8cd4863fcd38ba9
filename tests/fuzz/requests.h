#pragma once

#include <string_view>

#include "engine/live_request.h"
#include "sluice/error.h"
#include "sluice/generation.h"

// What the targets share whose inputs become requests.
namespace sluice::fuzz {

// Stands in the seeds for what a client wrote and no message may repeat.
inline constexpr std::string_view kPrivateText = "PRIVATE";

// What a client is told: a reason in bounded, printable UTF-8, without its own texts, and not that
// the server is at fault.
void require_refusal(const Error& error);

// Through the service's validator, for a model with a tokenizer and a chat template. What it passes
// is what the engine takes for granted.
Result<engine::CheckedRequest> check(GenerateRequest request);

}  // namespace sluice::fuzz
