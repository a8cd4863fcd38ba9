#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/http/openai_request.h"
#include "sluice/generation.h"

namespace sluice::server {

// What every part of one answer says.
struct OpenAiHeading {
  OpenAiRoute route = OpenAiRoute::kCompletions;
  std::string id;       // "cmpl-...", "chatcmpl-..."
  int64_t created = 0;  // seconds since 1970
  std::string model;    // its name
  std::string
      fingerprint;  // kernel profile and digest: what decides the tokens besides the request
  bool return_token_ids = false;
  bool include_usage = false;
};

// One completion of a whole answer, put together from its chunks.
struct OpenAiChoice {
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<PositionLogprobs> logprobs;
  bool first_is_unscored = false;  // logprobs begins with the prompt's first token
  std::optional<FinishReason> finish_reason;
  std::optional<std::string> stop_reason;

  void add(GenerateChunk&& chunk);
};

// Writes answers as OpenAI's API has them, with three additions: "stop_reason" of a choice
// (vLLM's), "token_ids" of a choice if asked for (vLLM's), and "sluice": {"seed", "profile",
// "digest"}, what a repeat of the answer needs.
//
// Threads: one at a time.
class OpenAiFormat final {
 public:
  // An answer of `num_choices` completions.
  OpenAiFormat(OpenAiHeading heading, size_t num_choices);

  // Server-sent events. A chunk without anything to say adds none.
  void append_event(const GenerateChunk& chunk, std::string& out);
  // The events after the last chunk: usage, if asked for, and [DONE].
  void append_end(const GenerateSummary& summary, std::string& out) const;
  static void append_error(const Error& error, std::string& out);

  // The whole answer.
  std::string whole(std::vector<OpenAiChoice> choices, const GenerateSummary& summary) const;

 private:
  void append_opening(const char* object, std::string& out) const;
  void append_completion_logprobs(const std::vector<PositionLogprobs>& at, bool first_is_unscored,
                                  int64_t* offset, std::string& out) const;

  const OpenAiHeading heading_;
  std::string opening_;                // of every event, up to its choices
  std::vector<int64_t> text_offsets_;  // of each choice, in characters: logprobs name them
  std::vector<bool> has_begun_;        // the choice's role has been said
};

}  // namespace sluice::server
