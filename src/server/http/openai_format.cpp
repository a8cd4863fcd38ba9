#include "server/http/openai_format.h"

#include <algorithm>
#include <iterator>
#include <ranges>
#include <string_view>
#include <utility>

#include "server/http/http_error.h"
#include "server/http/json_writer.h"

namespace sluice::server {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

void append_int(int64_t value, std::string& out) {
  out += std::to_string(value);
}

// [1,2,3]
template <typename Numbers>
void append_numbers(const Numbers& numbers, std::string& out) {
  const char* separator = "";
  out += '[';
  for (const auto number : numbers) {
    out += separator;
    append_int(number, out);
    separator = ",";
  }
  out += ']';
}

void append_ids(const std::vector<int32_t>& ids, std::string& out) {
  out += ",\"token_ids\":";
  append_numbers(ids, out);
}

// null while the completion goes on.
void append_finish(const std::optional<FinishReason>& reason,
                   const std::optional<std::string>& stop_reason, std::string& out) {
  out += ",\"finish_reason\":";
  if (!reason) {
    out += "null";
    return;
  }
  out += '"';
  out += to_string(*reason);
  out += '"';
  if (!stop_reason) return;
  out += ",\"stop_reason\":";
  append_json_string(*stop_reason, out);
}

// {"token": ..., "logprob": ..., "bytes": [...]}, without the closing brace. The bytes of a token
// that is a part of a character are not known here.
void append_chat_token(const TokenLogprob& token, std::string& out) {
  out += "{\"token\":";
  append_json_string(token.text, out);
  out += ",\"logprob\":";
  append_json_number(token.logprob, out);
  out += ",\"bytes\":";
  if (token.text.find(kReplacement) != std::string::npos) {
    out += "null";
    return;
  }
  append_numbers(std::views::transform(token.text, [](char c) { return uint8_t(c); }), out);
}

void append_chat_logprobs(const std::vector<PositionLogprobs>& positions, std::string& out) {
  out += ",\"logprobs\":";
  if (positions.empty()) {
    out += "null";
    return;
  }
  out += "{\"content\":[";
  for (size_t i = 0; i < positions.size(); ++i) {
    if (i > 0) out += ',';
    append_chat_token(positions[i].token, out);
    out += ",\"top_logprobs\":[";
    for (size_t k = 0; k < positions[i].top.size(); ++k) {
      if (k > 0) out += ',';
      append_chat_token(positions[i].top[k], out);
      out += '}';
    }
    out += "]}";
  }
  out += "]}";
}

// An object by token text, which is how OpenAI's older interface has it. Of several tokens with one
// text (parts of characters) the likeliest stays.
void append_top(const PositionLogprobs& position, std::string& out) {
  out += '{';
  std::vector<std::string_view> seen;
  for (const TokenLogprob& token : position.top) {
    if (std::ranges::find(seen, token.text) != seen.end()) continue;
    if (!seen.empty()) out += ',';
    seen.push_back(token.text);
    append_json_string(token.text, out);
    out += ':';
    append_json_number(token.logprob, out);
  }
  out += '}';
}

int64_t count_characters(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; });
}

void append_usage(const Usage& usage, std::string& out) {
  out += "{\"prompt_tokens\":";
  append_int(usage.prompt_tokens, out);
  out += ",\"completion_tokens\":";
  append_int(usage.completion_tokens, out);
  out += ",\"total_tokens\":";
  append_int(int64_t{usage.prompt_tokens} + usage.completion_tokens, out);
  out += ",\"prompt_tokens_details\":{\"cached_tokens\":";
  append_int(usage.cached_tokens, out);
  out += "}}";
}

void append_origin(const GenerateSummary& summary, std::string& out) {
  out += "{\"seed\":" + std::to_string(summary.seed) + ",\"profile\":";
  append_json_string(summary.profile, out);
  out += ",\"digest\":";
  append_json_string(summary.digest, out);
  out += '}';
}

}  // namespace

void OpenAiChoice::add(GenerateChunk&& chunk) {
  if (chunk.is_prompt && !chunk.logprobs.empty() && logprobs.empty()) first_is_unscored = true;
  text += chunk.text;
  if (!chunk.is_prompt) {
    token_ids.insert(token_ids.end(), chunk.token_ids.begin(), chunk.token_ids.end());
  }
  std::ranges::move(chunk.logprobs, std::back_inserter(logprobs));
  if (chunk.finish_reason) finish_reason = chunk.finish_reason;
  if (chunk.stop_reason) stop_reason = std::move(chunk.stop_reason);
}

OpenAiFormat::OpenAiFormat(OpenAiHeading heading, size_t num_choices)
    : heading_(std::move(heading)), text_offsets_(num_choices, 0), has_begun_(num_choices, false) {
  opening_ = "data: ";
  append_opening(heading_.route == OpenAiRoute::kChat ? "chat.completion.chunk" : "text_completion",
                 opening_);
}

void OpenAiFormat::append_opening(const char* object, std::string& out) const {
  out += "{\"id\":";
  append_json_string(heading_.id, out);
  out += ",\"object\":\"";
  out += object;
  out += "\",\"created\":";
  append_int(heading_.created, out);
  out += ",\"model\":";
  append_json_string(heading_.model, out);
  out += ",\"system_fingerprint\":";
  append_json_string(heading_.fingerprint, out);
  out += ",\"choices\":[";
}

void OpenAiFormat::append_completion_logprobs(const std::vector<PositionLogprobs>& positions,
                                              bool first_is_unscored, int64_t* offset,
                                              std::string& out) const {
  out += ",\"logprobs\":";
  if (positions.empty()) {
    out += "null";
    return;
  }
  std::string tokens, values, top, offsets;
  for (size_t i = 0; i < positions.size(); ++i) {
    const bool is_scored = i > 0 || !first_is_unscored;
    for (std::string* list : {&tokens, &values, &top, &offsets}) *list += i == 0 ? "" : ",";
    append_json_string(positions[i].token.text, tokens);
    if (is_scored) {
      append_json_number(positions[i].token.logprob, values);
      append_top(positions[i], top);
    } else {
      values += "null";
      top += "null";
    }
    append_int(*offset, offsets);
    *offset += count_characters(positions[i].token.text);
  }
  out += "{\"tokens\":[" + tokens + "],\"token_logprobs\":[" + values + "],\"top_logprobs\":[" +
         top + "],\"text_offset\":[" + offsets + "]}";
}

void OpenAiFormat::append_event(const GenerateChunk& chunk, std::string& out) {
  const bool is_chat = heading_.route == OpenAiRoute::kChat;
  const auto index = static_cast<size_t>(chunk.index);
  const bool says_ids = heading_.return_token_ids && !chunk.is_prompt && !chunk.token_ids.empty();
  const bool says_role = is_chat && !has_begun_[index];
  if (chunk.text.empty() && chunk.logprobs.empty() && !chunk.finish_reason && !says_ids &&
      !says_role) {
    return;
  }
  has_begun_[index] = true;
  out += opening_;
  out += "{\"index\":";
  append_int(chunk.index, out);
  if (is_chat) {
    out +=
        says_role ? ",\"delta\":{\"role\":\"assistant\",\"content\":" : ",\"delta\":{\"content\":";
    append_json_string(chunk.text, out);
    out += '}';
    append_chat_logprobs(chunk.logprobs, out);
  } else {
    out += ",\"text\":";
    append_json_string(chunk.text, out);
    append_completion_logprobs(chunk.logprobs, chunk.is_prompt && text_offsets_[index] == 0,
                               &text_offsets_[index], out);
  }
  if (says_ids) append_ids(chunk.token_ids, out);
  append_finish(chunk.finish_reason, chunk.stop_reason, out);
  out += heading_.include_usage ? "}],\"usage\":null}\n\n" : "}]}\n\n";
}

void OpenAiFormat::append_end(const GenerateSummary& summary, std::string& out) const {
  if (heading_.include_usage) {
    out += opening_ + "],\"usage\":";
    append_usage(summary.usage, out);
    out += ",\"sluice\":";
    append_origin(summary, out);
    out += "}\n\n";
  }
  out += "data: [DONE]\n\n";
}

void OpenAiFormat::append_error(const Error& error, std::string& out) {
  out += "data: " + error_json(http_status(error.code), error.message) + "\n\n";
}

std::string OpenAiFormat::whole(std::vector<OpenAiChoice> choices,
                                const GenerateSummary& summary) const {
  const bool is_chat = heading_.route == OpenAiRoute::kChat;
  std::string out;
  append_opening(is_chat ? "chat.completion" : "text_completion", out);
  for (size_t i = 0; i < choices.size(); ++i) {
    const OpenAiChoice& choice = choices[i];
    out += i == 0 ? "{\"index\":" : ",{\"index\":";
    append_int(static_cast<int64_t>(i), out);
    if (is_chat) {
      out += ",\"message\":{\"role\":\"assistant\",\"content\":";
      append_json_string(choice.text, out);
      out += '}';
      append_chat_logprobs(choice.logprobs, out);
    } else {
      out += ",\"text\":";
      append_json_string(choice.text, out);
      int64_t offset = 0;
      append_completion_logprobs(choice.logprobs, choice.first_is_unscored, &offset, out);
    }
    if (heading_.return_token_ids) append_ids(choice.token_ids, out);
    append_finish(choice.finish_reason, choice.stop_reason, out);
    out += '}';
  }
  out += "],\"usage\":";
  append_usage(summary.usage, out);
  out += ",\"sluice\":";
  append_origin(summary, out);
  out += '}';
  return out;
}

}  // namespace sluice::server
