#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/error.h"
#include "sluice/generation.h"

namespace sluice::server {

// An error with the name of the field that it is about; empty if it is about none.
struct FieldError {
  Error error;
  std::string param;
};

enum class OpenAiRoute : uint8_t { kCompletions, kChat };

// What a body of /v1/completions or /v1/chat/completions asks for. Nothing is checked here but
// types and names: values are the service's validator's.
struct OpenAiCall {
  OpenAiRoute route = OpenAiRoute::kCompletions;
  GenerateRequest common;                 // everything but the prompts; of a chat, all
  std::vector<std::string> texts;         // the prompts of completions, as texts
  std::vector<std::vector<int64_t>> ids;  // or as token ids
  bool stream = false;
  bool include_usage = false;      // a last event with the usage
  bool return_token_ids = false;   // each choice has its token ids too
  std::vector<std::string> names;  // of the body's fields

  // Each prompt becomes a request of its own; a chat is one.
  size_t num_prompts() const;
  // Made when it is wanted, so that what the first one is refused for is not copied for all. Once
  // for each prompt: it is moved out.
  GenerateRequest take_request(size_t prompt_idx);
};

// At most so many prompts in one call; each becomes a request of its own.
inline constexpr size_t kMaxPrompts = 128;
// OpenAI's default of max_tokens for /v1/completions. A chat may use what the context leaves.
inline constexpr int64_t kDefaultCompletionTokens = 16;

// kInvalidArgument: not JSON, an unknown name or a value of the wrong type. kUnimplemented: a
// parameter that OpenAI or vLLM has and this server has not.
std::expected<OpenAiCall, FieldError> read_openai_call(OpenAiRoute route, std::string_view body);

// A validator's error with the names that this interface uses ("logprobs" of a chat is
// "top_logprobs" there), and the field that it is about.
FieldError name_field(const OpenAiCall& call, Error error);

}  // namespace sluice::server
