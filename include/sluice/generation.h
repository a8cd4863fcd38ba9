#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sluice {

struct LogitBias {
  int64_t token_id = 0;
  double bias = 0;
};

// A conversation, which the model's own chat template turns into a prompt: the text and the token
// ids are those of Transformers' apply_chat_template. Texts are JSON, in the shape that OpenAI's
// and Transformers' interfaces use; the order of keys is kept, because templates may show it.
struct ChatPrompt {
  // Array of objects with "role" and "content" (or "tool_calls") and what else the template reads.
  std::string messages;
  std::string tools;            // array of objects; empty: none
  std::string template_kwargs;  // object: further variables of the template; empty: none
  // Ends the prompt with the start of an answer. Default: true, unless continue_final_message.
  std::optional<bool> add_generation_prompt;
  // The last message stays open, and the model goes on with it.
  bool continue_final_message = false;
  // Special tokens that messages, tools and kwargs spell out become token ids, as in Transformers:
  // whoever writes a message can then end it and begin another one. False keeps them plain text.
  bool parse_special_tokens = true;
};

// What a chat became.
struct RenderedChat {
  std::string text;
  std::vector<int32_t> token_ids;
};

// A generation request as a front end received it. An absent field takes its default in the one
// validator, so that absent and zero stay different things; nothing here has been checked yet.
struct GenerateRequest {
  std::string request_id;                         // the client's; the service draws one when empty
  std::string client;                             // whose key it came with; empty without keys
  std::string traceparent;                        // W3C trace context, as it came; may be wrong
  std::string model;                              // may be empty when the service has one model
  std::optional<std::string> prompt;              // exactly one of prompt,
  std::optional<std::vector<int64_t>> token_ids;  // token_ids
  std::optional<ChatPrompt> chat;                 // and chat

  std::optional<int64_t> max_tokens;  // default: what is left of the context
  std::optional<int64_t> min_tokens;  // default 0
  std::optional<int64_t> n;           // completions of the same prompt, default 1

  std::optional<double> temperature;         // default 1; 0 is greedy
  std::optional<double> top_p;               // default 1 (off)
  std::optional<int64_t> top_k;              // default 0 (off)
  std::optional<double> min_p;               // default 0 (off)
  std::optional<double> repetition_penalty;  // default 1 (off)
  std::optional<double> presence_penalty;    // default 0 (off)
  std::optional<double> frequency_penalty;   // default 0 (off)
  std::vector<LogitBias> logit_bias;
  std::optional<uint64_t> seed;  // default: drawn once, and reported in the summary

  std::vector<std::string> stop;
  std::vector<int64_t> stop_token_ids;
  bool ignore_eos = false;
  bool echo = false;                // the prompt comes back as the first chunk of every index
  bool skip_special_tokens = true;  // leave special tokens out of text
  std::optional<int64_t> logprobs;  // top-N per generated token; 0: the drawn token's only
  std::optional<int64_t> prompt_logprobs;  // the same for the prompt's tokens

  // When the answer is of no use any more. Past `deadline` the request ends with kDeadlineExceeded,
  // as it does if no token has come `ttft_limit` after its arrival. `total_limit` after its arrival
  // it ends as it is, with FinishReason::kDeadline; with kDeadlineExceeded if it has no token yet.
  // One that waits and cannot have its first token in time is not started: kDeadlineExceeded.
  std::optional<std::chrono::steady_clock::time_point> deadline;
  std::optional<std::chrono::nanoseconds> ttft_limit;
  std::optional<std::chrono::nanoseconds> total_limit;
};

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0;  // natural log, of the model's own distribution (before penalties and cuts)
  std::string text;   // of the token alone; may be U+FFFD for a part of a character
};

// What is known of one position: its own token, and the N most likely ones, best first.
struct PositionLogprobs {
  TokenLogprob token;
  std::vector<TokenLogprob> top;
};

enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kDeadline, kError };

// "stop", "length", "cancelled", "deadline", "error".
const char* to_string(FinishReason reason);

// New output of one of a request's completions. Texts of one index join to the whole text;
// text may lag behind token_ids while a character or a possible stop string is incomplete.
struct GenerateChunk {
  int32_t index = 0;       // 0..n-1
  bool is_prompt = false;  // the echoed prompt; then logprobs are the prompt's
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<PositionLogprobs> logprobs;  // one per token id, if asked for
                                           // (a prompt's first token: 0, no top)
  // Set in the last chunk of this index; a request that fails before its first token has no chunk.
  std::optional<FinishReason> finish_reason;
  std::optional<std::string> stop_reason;  // the stop string or the stop token's id
};

struct Usage {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;      // prompt tokens whose KV came from a shared block
  int32_t completion_tokens = 0;  // over all n completions
  std::chrono::nanoseconds queue_time{0};
  std::chrono::nanoseconds prefill_time{0};
  std::chrono::nanoseconds decode_time{0};
};

// Sent once, after the last chunk of the last index. seed, profile and digest are what a repeat of
// the answer needs.
struct GenerateSummary {
  std::string request_id;
  uint64_t seed = 0;
  std::string profile;  // kernel profile, e.g. "cpu-amx/1"
  std::string digest;   // of the package
  Usage usage;
};

}  // namespace sluice
