#include "cli/request_fields.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <type_traits>
#include <utility>

#include "base/clock.h"
#include "base/json_read.h"
#include "cli/parse.h"
#include "cli/request_source.h"

namespace sluice::cli {
namespace {

using R = GenerateRequest;

constexpr std::string_view kPrompt = "Prompt (exactly one)";
constexpr std::string_view kChat = "Chat (with --messages)";
constexpr std::string_view kLength = "Length and stopping";
constexpr std::string_view kSampling = "Sampling";
constexpr std::string_view kOutput = "Output";

constexpr std::array<RequestField, 31> kFields{{
    {"prompt", kPrompt, "TEXT", "Text to continue (UTF-8)", "", &R::prompt},
    {"token_ids", kPrompt, "IDS", "The same as token ids, with commas: 1,2,3; nothing is added", "",
     &R::token_ids},
    {"messages", kPrompt, "FILE|JSON",
     "A chat for the model's template: [{\"role\": \"user\", \"content\": \"Hi\"}, ...]", "",
     &ChatPrompt::messages},
    {"model", kPrompt, "NAME", "Which of the server's models; not needed if it has one", "",
     &R::model},
    {"request_id", kPrompt, "ID", "Name of the request in logs and metadata", "drawn",
     &R::request_id},

    {"tools", kChat, "FILE|JSON", "Functions that the model may call: a JSON array", "none",
     &ChatPrompt::tools},
    {"chat_template_kwargs", kChat, "FILE|JSON", "More variables of the template: a JSON object",
     "none", &ChatPrompt::template_kwargs},
    {"add_generation_prompt", kChat, "BOOL", "End the prompt with the start of an answer", "true",
     &ChatPrompt::add_generation_prompt},
    {"continue_final_message", kChat, "", "Go on with the last message", "",
     &ChatPrompt::continue_final_message},
    {"parse_special_tokens", kChat, "BOOL",
     "Special tokens spelled in messages become tokens; false keeps them plain text", "true",
     &ChatPrompt::parse_special_tokens},

    {"max_tokens", kLength, "N", "Most tokens of a completion", "what the context leaves",
     &R::max_tokens},
    {"min_tokens", kLength, "N", "Fewest tokens before an end token or stop string counts", "0",
     &R::min_tokens},
    {"stop", kLength, "TEXT", "End where this text appears; it is not printed", "", &R::stop},
    {"stop_token_ids", kLength, "IDS", "End at one of these token ids", "", &R::stop_token_ids},
    {"ttft_ms", kLength, "N", "Give up unless the first token comes within N milliseconds", "none",
     &R::ttft_limit},
    {"total_ms", kLength, "N", "End after N milliseconds with what there is", "none",
     &R::total_limit},
    {"ignore_eos", kLength, "", "Go on past the model's end token", "", &R::ignore_eos},

    {"temperature", kSampling, "T", "Divides the logits; 0 is greedy", "1", &R::temperature},
    {"top_p", kSampling, "P", "Keep the likeliest tokens that reach this probability together",
     "1, off", &R::top_p},
    {"top_k", kSampling, "K", "Keep the K likeliest tokens", "0, off", &R::top_k},
    {"min_p", kSampling, "P", "Keep tokens at least P times as likely as the likeliest", "0, off",
     &R::min_p},
    {"repetition_penalty", kSampling, "X",
     "Divide (or multiply, if negative) logits of tokens seen before", "1, off",
     &R::repetition_penalty},
    {"presence_penalty", kSampling, "X", "Subtract from logits of tokens in the completion",
     "0, off", &R::presence_penalty},
    {"frequency_penalty", kSampling, "X", "Subtract as often as the completion has the token",
     "0, off", &R::frequency_penalty},
    {"logit_bias", kSampling, "ID=X", "Add X to a token's logit; several with commas", "",
     &R::logit_bias},
    {"seed", kSampling, "S", "Of the draw: the same seed gives the same tokens", "drawn", &R::seed},

    {"n", kOutput, "N", "Completions of the same prompt", "1", &R::n},
    {"echo", kOutput, "", "Print the prompt before the completion", "", &R::echo},
    {"skip_special_tokens", kOutput, "BOOL", "Leave special tokens out of the text", "true",
     &R::skip_special_tokens},
    {"logprobs", kOutput, "N", "Logprobs of each token and the N likeliest at its place (--json)",
     "none", &R::logprobs},
    {"prompt_logprobs", kOutput, "N", "The same for the prompt's tokens (--json)", "none",
     &R::prompt_logprobs},
}};

std::string flag_name(std::string_view field) {
  std::string name = "--" + std::string(field);
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

template <typename T>
Result<void> store(Result<T> value, auto& target) {
  if (!value) return std::unexpected(std::move(value.error()));
  target = *std::move(value);
  return {};
}

// From the command line, by the type of the member.
Result<void> set_text(std::string& target, const std::string& text) {
  target = text;
  return {};
}
Result<void> set_text(std::optional<std::string>& target, const std::string& text) {
  target = text;
  return {};
}
Result<void> set_text(std::vector<std::string>& target, const std::string& text) {
  target.push_back(text);
  return {};
}
Result<void> set_text(std::optional<std::vector<int64_t>>& target, const std::string& text) {
  return store(parse_int64_list(text), target);
}
Result<void> set_text(std::vector<int64_t>& target, const std::string& text) {
  return store(parse_int64_list(text), target);
}
Result<void> set_text(std::vector<LogitBias>& target, const std::string& text) {
  return store(parse_logit_bias(text), target);
}
Result<void> set_text(std::optional<int64_t>& target, const std::string& text) {
  return store(parse_int64(text), target);
}
Result<void> set_text(std::optional<uint64_t>& target, const std::string& text) {
  return store(parse_uint64(text), target);
}
Result<void> set_text(std::optional<double>& target, const std::string& text) {
  return store(parse_double(text), target);
}
// Milliseconds, as the fields' names say.
Result<void> store_milliseconds(const Result<int64_t>& value,
                                std::optional<std::chrono::nanoseconds>& target) {
  if (!value) return std::unexpected(value.error());
  target = base::from_milliseconds(*value);
  return {};
}
Result<void> set_text(std::optional<std::chrono::nanoseconds>& target, const std::string& text) {
  return store_milliseconds(parse_int64(text), target);
}
Result<void> set_text(bool& target, const std::string& text) {
  if (!text.empty()) return store(parse_bool(text), target);
  target = true;  // a flag without a value
  return {};
}

// A JSON text as it stands, or the file that holds it.
Result<std::string> json_or_file(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && (text[first] == '[' || text[first] == '{')) return text;
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(text, ignored)) {
    return invalid_argument(quote(text) + " is neither JSON nor a file");
  }
  std::ifstream file(text, std::ios::binary);
  std::string content(kMaxLineBytes + 1, '\0');
  file.read(content.data(), static_cast<std::streamsize>(content.size()));
  content.resize(static_cast<size_t>(file.gcount()));
  if (content.empty()) return invalid_argument("cannot read " + quote(text) + ", or it is empty");
  if (content.size() > kMaxLineBytes) {
    return invalid_argument(quote(text) + " is longer than " + std::to_string(kMaxLineBytes) +
                            " bytes");
  }
  return content;
}

// Any member, by what it belongs to.
ChatPrompt& chat_of(GenerateRequest& request) {
  if (!request.chat) request.chat.emplace();
  return *request.chat;
}
template <typename T>
Result<void> set_text(GenerateRequest& request, T GenerateRequest::* member,
                      const std::string& text) {
  return set_text(request.*member, text);
}
Result<void> set_text(GenerateRequest& request, ChatJson member, const std::string& text) {
  return store(json_or_file(text), chat_of(request).*member);
}
Result<void> set_text(GenerateRequest& request, ChatChoice member, const std::string& text) {
  return store(parse_bool(text), chat_of(request).*member);
}
Result<void> set_text(GenerateRequest& request, ChatSwitch member, const std::string& text) {
  if (!text.empty()) return store(parse_bool(text), chat_of(request).*member);
  chat_of(request).*member = true;
  return {};
}

Result<LogitBias> as_logit_bias(const Json& json) {
  const bool has_both =
      json.is_object() && json.size() == 2 && json.contains("token_id") && json.contains("bias");
  if (!has_both) return invalid_argument("");
  const Result<int64_t> token_id = as_int64(json["token_id"]);
  const Result<double> bias = as_double(json["bias"]);
  if (!token_id || !bias) return invalid_argument("");
  return LogitBias{*token_id, *bias};
}

template <typename Target>
Result<void> set_json(Target& target, const Json& json) {
  return read_json(json, target);
}
Result<void> set_json(std::optional<std::chrono::nanoseconds>& target, const Json& json) {
  return store_milliseconds(as_int64(json), target);
}
Result<void> set_json(std::vector<LogitBias>& target, const Json& json) {
  constexpr const char* kExpected = "a list of {\"token_id\": ID, \"bias\": X}";
  if (!json.is_array()) return invalid_argument(kExpected);
  target.clear();
  for (const Json& item : json) {
    const Result<LogitBias> entry = as_logit_bias(item);
    if (!entry) {
      return invalid_argument(fmt::format("{} (item {} is not)", kExpected, target.size()));
    }
    target.push_back(*entry);
  }
  return {};
}

// Any member, by what it belongs to. A chat's texts are not checked here: that is the validator's.
template <typename T>
Result<void> set_json(GenerateRequest& request, T GenerateRequest::* member,
                      const JsonMember& json) {
  return set_json(request.*member, json.value);
}
Result<void> set_json(GenerateRequest& request, ChatJson member, const JsonMember& json) {
  chat_of(request).*member = json.text;
  return {};
}
Result<void> set_json(GenerateRequest& request, ChatChoice member, const JsonMember& json) {
  return set_json(chat_of(request).*member, json.value);
}
Result<void> set_json(GenerateRequest& request, ChatSwitch member, const JsonMember& json) {
  return set_json(chat_of(request).*member, json.value);
}

const RequestField* find_field(std::string_view name) {
  const auto fields = request_fields();
  const auto found = std::find_if(fields.begin(), fields.end(),
                                  [name](const RequestField& field) { return field.name == name; });
  return found == fields.end() ? nullptr : &*found;
}

Error unknown_field(const std::string& key) {
  std::vector<std::string> names;
  for (const RequestField& field : request_fields()) names.emplace_back(field.name);
  const std::string meant = nearest(key, names);
  return {ErrorCode::kInvalidArgument,
          "unknown field " + quote(key) + (meant.empty() ? "" : "; did you mean " + meant + "?")};
}

}  // namespace

std::span<const RequestField> request_fields() {
  return kFields;
}

bool has_messages(const GenerateRequest& request) {
  return request.chat && !request.chat->messages.empty();
}

void add_request_flags(Flags& flags, GenerateRequest& request,
                       std::span<const std::string_view> without) {
  std::string_view group;
  for (const RequestField& field : request_fields()) {
    if (std::find(without.begin(), without.end(), field.name) != without.end()) continue;
    if (field.group != group) flags.group(std::string(group = field.group));
    FlagSpec spec{flag_name(field.name), std::string(field.placeholder), std::string(field.help),
                  std::string(field.default_text)};
    std::visit(
        [&](auto member) {
          const auto set = [&request, member](const std::string& text) {
            return set_text(request, member, text);
          };
          if constexpr (std::is_same_v<decltype(member), std::vector<std::string> R::*>) {
            flags.add_repeated(spec, set);
          } else {
            flags.add(spec, set);
          }
        },
        field.member);
  }
}

Result<GenerateRequest> request_from_json(std::string_view line, const GenerateRequest& defaults) {
  const auto members = parse_json_members(line);
  if (!members) return std::unexpected(members.error());
  GenerateRequest request = defaults;
  for (const JsonMember& json : *members) {
    const RequestField* field = find_field(json.name);
    if (field == nullptr) return std::unexpected(unknown_field(json.name));
    if (json.value.is_null()) continue;  // as in protobuf's JSON: the same as absent
    const Result<void> set =
        std::visit([&](auto member) { return set_json(request, member, json); }, field->member);
    if (!set) {
      return invalid_argument(std::string(field->name) + " must be " + set.error().message);
    }
  }
  return request;
}

}  // namespace sluice::cli
