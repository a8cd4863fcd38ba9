#include "server/http/openai_request.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/json_read.h"
#include "server/field_names.h"
#include "server/logit_bias.h"

namespace sluice::server {
namespace {

using R = GenerateRequest;

// What has been read of a call so far.
struct Draft {
  OpenAiCall call;
  std::string messages;
  std::string tools;
  std::string template_kwargs;
  std::optional<bool> add_generation_prompt;
  bool continue_final_message = false;
  std::optional<bool> parse_special_tokens;
  std::optional<int64_t> max_completion_tokens;
  std::optional<bool> has_logprobs;
  std::optional<int64_t> top_logprobs;
  std::string tool_choice = "auto";
};

using Read = Result<void> (*)(const JsonMember&, Draft&);

constexpr uint8_t kCompletions = 1;
constexpr uint8_t kChat = 2;
constexpr uint8_t kBoth = 3;

struct Field {
  std::string_view name;
  uint8_t routes;
  Read read;
};

template <auto Member>
Result<void> request_member(const JsonMember& member, Draft& draft) {
  return read_json(member.value, draft.call.common.*Member);
}
template <auto Member>
Result<void> draft_member(const JsonMember& member, Draft& draft) {
  return read_json(member.value, draft.*Member);
}
template <auto Member>
Result<void> call_member(const JsonMember& member, Draft& draft) {
  return read_json(member.value, draft.call.*Member);
}
// JSON that the chat template reads, with its keys in order. The validator checks what it is.
template <auto Member>
Result<void> json_member(const JsonMember& member, Draft& draft) {
  draft.*Member = member.text;
  return {};
}

Result<void> read_prompt(const JsonMember& member, Draft& draft) {
  constexpr const char* kExpected =
      "a string, a list of strings, a list of token ids, or a list of such lists";
  if (member.value.is_string()) {
    draft.call.texts.push_back(member.value.get<std::string>());
    return {};
  }
  if (!member.value.is_array() || member.value.empty()) return invalid_argument(kExpected);
  if (member.value.front().is_number()) {
    std::vector<int64_t>& ids = draft.call.ids.emplace_back();
    return read_json(member.value, ids);
  }
  if (member.value.size() > kMaxPrompts) {
    return invalid_argument("of at most " + std::to_string(kMaxPrompts) + " prompts, it has " +
                            std::to_string(member.value.size()));
  }
  for (const Json& prompt : member.value) {
    if (prompt.is_string() && draft.call.ids.empty()) {
      draft.call.texts.push_back(prompt.get<std::string>());
    } else if (prompt.is_array() && draft.call.texts.empty()) {
      if (auto read = read_json(prompt, draft.call.ids.emplace_back()); !read) return read;
    } else {
      return invalid_argument(kExpected);
    }
  }
  return {};
}

Result<void> read_stop(const JsonMember& member, Draft& draft) {
  if (member.value.is_string()) {
    draft.call.common.stop = {member.value.get<std::string>()};
    return {};
  }
  if (auto read = read_json(member.value, draft.call.common.stop); !read) {
    return invalid_argument("a string or a list of strings");
  }
  return {};
}

Result<void> read_biases(const JsonMember& member, Draft& draft) {
  auto biases = read_logit_bias(member.value);
  if (!biases) return std::unexpected(biases.error());
  draft.call.common.logit_bias = *std::move(biases);
  return {};
}

Result<void> read_stream_options(const JsonMember& member, Draft& draft) {
  if (!member.value.is_object()) return invalid_argument("an object, {\"include_usage\": true}");
  for (const auto& [key, value] : member.value.items()) {
    if (value.is_null()) continue;
    // OpenAI pads events with it against eavesdroppers; without padding is this server's way.
    const bool is_padding =
        key == "include_obfuscation" && value.is_boolean() && !value.get<bool>();
    if (is_padding) continue;
    if (key != "include_usage" || !value.is_boolean()) {
      return invalid_argument("an object with include_usage, true or false, and nothing else");
    }
    draft.call.include_usage = value.get<bool>();
  }
  return {};
}

Result<void> read_tool_choice(const JsonMember& member, Draft& draft) {
  const bool is_known =
      member.value.is_string() && (member.value == "auto" || member.value == "none");
  if (!is_known) {
    return fail(
        ErrorCode::kUnimplemented,
        "\"auto\" or \"none\": this server shows tools to the model and does not force one");
  }
  draft.tool_choice = member.value.get<std::string>();
  return {};
}

// Completions: how many alternatives. Chat: whether at all.
Result<void> read_logprobs(const JsonMember& member, Draft& draft) {
  if (draft.call.route == OpenAiRoute::kChat) return read_json(member.value, draft.has_logprobs);
  return read_json(member.value, draft.call.common.logprobs);
}

template <auto Member>
Result<void> read_milliseconds(const JsonMember& member, Draft& draft) {
  std::optional<int64_t> milliseconds;
  if (auto read = read_json(member.value, milliseconds); !read) return read;
  draft.call.common.*Member = base::from_milliseconds(*milliseconds);
  return {};
}

Result<void> ignore_text(const JsonMember& member, Draft&) {
  return member.value.is_string() ? Result<void>() : invalid_argument("a string");
}

// Values that ask for nothing special are let through, for clients that always send them.
template <const auto& Allowed>
Result<void> only(const JsonMember& member, Draft&) {
  static const Json allowed = Json::parse(Allowed);
  if (std::ranges::find(allowed, member.value) != allowed.end()) return {};
  return fail(ErrorCode::kUnimplemented, "left out: this server does not have it");
}
constexpr char kNothing[] = "[]";
constexpr char kFalse[] = "[false]";
constexpr char kTrue[] = "[true]";
constexpr char kOne[] = "[1]";
constexpr char kEmptyText[] = R"([""])";
constexpr char kTextFormat[] = R"([{"type":"text"}])";
constexpr char kTextOnly[] = R"([["text"]])";
constexpr char kAnyTier[] = R"(["auto","default"])";

constexpr auto kFields = std::to_array<Field>({
    {"model", kBoth, request_member<&R::model>},
    {"prompt", kCompletions, read_prompt},
    {"messages", kChat, json_member<&Draft::messages>},
    {"tools", kChat, json_member<&Draft::tools>},
    {"tool_choice", kChat, read_tool_choice},
    {"chat_template_kwargs", kChat, json_member<&Draft::template_kwargs>},
    {"add_generation_prompt", kChat, draft_member<&Draft::add_generation_prompt>},
    {"continue_final_message", kChat, draft_member<&Draft::continue_final_message>},
    {"parse_special_tokens", kChat, draft_member<&Draft::parse_special_tokens>},
    {"max_tokens", kBoth, request_member<&R::max_tokens>},
    {"max_completion_tokens", kChat, draft_member<&Draft::max_completion_tokens>},
    {"min_tokens", kBoth, request_member<&R::min_tokens>},
    {"n", kBoth, request_member<&R::n>},
    {"temperature", kBoth, request_member<&R::temperature>},
    {"top_p", kBoth, request_member<&R::top_p>},
    {"top_k", kBoth, request_member<&R::top_k>},
    {"min_p", kBoth, request_member<&R::min_p>},
    {"repetition_penalty", kBoth, request_member<&R::repetition_penalty>},
    {"presence_penalty", kBoth, request_member<&R::presence_penalty>},
    {"frequency_penalty", kBoth, request_member<&R::frequency_penalty>},
    {"logit_bias", kBoth, read_biases},
    {"seed", kBoth, request_member<&R::seed>},
    {"stop", kBoth, read_stop},
    {"stop_token_ids", kBoth, request_member<&R::stop_token_ids>},
    {"ttft_ms", kBoth, read_milliseconds<&R::ttft_limit>},
    {"total_ms", kBoth, read_milliseconds<&R::total_limit>},
    {"ignore_eos", kBoth, request_member<&R::ignore_eos>},
    {"skip_special_tokens", kBoth, request_member<&R::skip_special_tokens>},
    {"echo", kCompletions, request_member<&R::echo>},
    {"logprobs", kBoth, read_logprobs},
    {"top_logprobs", kChat, draft_member<&Draft::top_logprobs>},
    {"return_token_ids", kBoth, call_member<&OpenAiCall::return_token_ids>},
    {"stream", kBoth, call_member<&OpenAiCall::stream>},
    {"stream_options", kBoth, read_stream_options},
    {"user", kBoth, ignore_text},
    {"safety_identifier", kBoth, ignore_text},
    {"prompt_cache_key", kBoth, ignore_text},
    // Known elsewhere.
    {"best_of", kCompletions, only<kOne>},
    {"suffix", kCompletions, only<kEmptyText>},
    {"audio", kChat, only<kNothing>},
    {"function_call", kChat, only<kNothing>},
    {"functions", kChat, only<kNothing>},
    {"metadata", kBoth, only<kNothing>},
    {"modalities", kChat, only<kTextOnly>},
    {"parallel_tool_calls", kChat, only<kTrue>},
    {"prediction", kChat, only<kNothing>},
    {"reasoning_effort", kChat, only<kNothing>},
    {"response_format", kBoth, only<kTextFormat>},
    {"service_tier", kBoth, only<kAnyTier>},
    {"store", kChat, only<kFalse>},
    {"verbosity", kChat, only<kNothing>},
    {"web_search_options", kChat, only<kNothing>},
    {"guided_choice", kBoth, only<kNothing>},
    {"guided_grammar", kBoth, only<kNothing>},
    {"guided_json", kBoth, only<kNothing>},
    {"guided_regex", kBoth, only<kNothing>},
    {"structured_outputs", kBoth, only<kNothing>},
    {"use_beam_search", kBoth, only<kFalse>},
    {"length_penalty", kBoth, only<kOne>},
    {"prompt_logprobs", kBoth, only<kNothing>},
    {"truncate_prompt_tokens", kBoth, only<kNothing>},
});

uint8_t bit(OpenAiRoute route) {
  return route == OpenAiRoute::kChat ? kChat : kCompletions;
}

std::unexpected<FieldError> bad_field(std::string param, Error error) {
  return std::unexpected(FieldError{std::move(error), std::move(param)});
}
std::unexpected<FieldError> bad_field(std::string param, std::string message) {
  return bad_field(std::move(param), Error{ErrorCode::kInvalidArgument, std::move(message)});
}

std::expected<void, FieldError> read_field(const JsonMember& member, Draft& draft) {
  const std::string& name = member.name;
  const auto found = std::ranges::find(kFields, name, &Field::name);
  if (found == kFields.end()) {
    return bad_field("", "unknown field \"" + echoed_name(name) + "\"");
  }
  if ((found->routes & bit(draft.call.route)) == 0) {
    return bad_field(name, name + " is not a field of this route");
  }
  draft.call.names.push_back(name);
  if (member.value.is_null()) return {};  // as OpenAI's clients write "not set"
  if (auto read = found->read(member, draft); !read) {
    return bad_field(name, {read.error().code, name + " must be " + read.error().message});
  }
  return {};
}

std::expected<void, FieldError> finish_completions(Draft& draft) {
  GenerateRequest& request = draft.call.common;
  if (draft.call.texts.empty() && draft.call.ids.empty())
    return bad_field("prompt", "prompt is missing");
  if (!request.max_tokens) request.max_tokens = kDefaultCompletionTokens;
  if (request.echo && request.logprobs) request.prompt_logprobs = request.logprobs;
  return {};
}

std::expected<void, FieldError> finish_chat(Draft& draft) {
  GenerateRequest& request = draft.call.common;
  if (draft.messages.empty()) return bad_field("messages", "messages is missing");
  if (draft.max_completion_tokens) {
    if (request.max_tokens && request.max_tokens != draft.max_completion_tokens) {
      return bad_field("max_completion_tokens",
                       "max_tokens and max_completion_tokens differ, must be one");
    }
    request.max_tokens = draft.max_completion_tokens;
  }
  if (draft.top_logprobs && !draft.has_logprobs.value_or(false)) {
    return bad_field("top_logprobs", "top_logprobs needs logprobs, true");
  }
  if (draft.has_logprobs.value_or(false)) request.logprobs = draft.top_logprobs.value_or(0);
  ChatPrompt& chat = request.chat.emplace();
  chat.messages = std::move(draft.messages);
  if (draft.tool_choice != "none") chat.tools = std::move(draft.tools);
  chat.template_kwargs = std::move(draft.template_kwargs);
  chat.add_generation_prompt = draft.add_generation_prompt;
  chat.continue_final_message = draft.continue_final_message;
  if (draft.parse_special_tokens) chat.parse_special_tokens = *draft.parse_special_tokens;
  return {};
}

}  // namespace

std::expected<OpenAiCall, FieldError> read_openai_call(OpenAiRoute route, std::string_view body) {
  const auto members = parse_json_members(body);
  if (!members) return bad_field("", members.error());
  Draft draft;
  draft.call.route = route;
  for (const JsonMember& member : *members) {
    if (auto read = read_field(member, draft); !read) return std::unexpected(read.error());
  }
  if (draft.call.include_usage && !draft.call.stream) {
    return bad_field("stream_options", "stream_options needs stream, true");
  }
  auto finished = route == OpenAiRoute::kChat ? finish_chat(draft) : finish_completions(draft);
  if (!finished) return std::unexpected(finished.error());
  return std::move(draft.call);
}

size_t OpenAiCall::num_prompts() const {
  return std::max<size_t>(1, texts.size() + ids.size());
}

GenerateRequest OpenAiCall::take_request(size_t prompt_idx) {
  GenerateRequest request = common;
  if (prompt_idx > 0) request.request_id += "-" + std::to_string(prompt_idx);
  if (!texts.empty()) request.prompt = std::move(texts[prompt_idx]);
  if (!ids.empty()) request.token_ids = std::move(ids[prompt_idx]);
  return request;
}

FieldError name_field(const OpenAiCall& call, Error error) {
  const auto has = [&](std::string_view name) {
    return std::ranges::find(call.names, name) != call.names.end();
  };
  const std::string_view name = leading_name(error.message);
  std::string param(name);
  if (name == "token_ids") param = "prompt";
  if (name == "logprobs" && has("top_logprobs")) param = "top_logprobs";
  if (name == "prompt_logprobs") param = "logprobs";
  if (name == "max_tokens" && !has("max_tokens") && has("max_completion_tokens")) {
    param = "max_completion_tokens";
  }
  if (!has(param)) return {std::move(error), ""};
  error.message.replace(0, name.size(), param);
  return {std::move(error), std::move(param)};
}

}  // namespace sluice::server
