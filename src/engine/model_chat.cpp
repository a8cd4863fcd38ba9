#include "engine/model_chat.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/utf8.h"

namespace sluice::engine {
namespace {

using tokenizer::OrderedJson;
using tokenizer::Tokenizer;

std::string number(size_t value) {
  return std::to_string(value);
}

// The user's wall clock, for templates that show the date.
std::chrono::local_seconds wall_clock() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm local{};
  ::localtime_r(&now, &local);
  return std::chrono::local_seconds(std::chrono::seconds(now + local.tm_gmtoff));
}

// An error of the template as a client may see it. A template that spends too much does so for this
// chat every time: trying again later, which kResourceExhausted means to clients, is of no use.
Error for_client(const Error& error) {
  constexpr size_t kMaxShownBytes = 300;
  std::string shown;
  std::string_view rest = error.message;
  while (!rest.empty() && shown.size() < kMaxShownBytes) {
    const Utf8Head head = read_utf8_head(rest);
    const auto first = static_cast<unsigned char>(rest[0]);
    const bool is_plain = head.kind == Utf8Head::Kind::kCharacter && first >= 0x20 && first != 0x7f;
    shown += is_plain ? std::string(rest.substr(0, head.length)) : "?";
    rest.remove_prefix(head.length);
  }
  if (!rest.empty()) shown += "...";
  const bool is_limit = error.code == ErrorCode::kResourceExhausted;
  return {is_limit ? ErrorCode::kInvalidArgument : error.code, std::move(shown)};
}

Result<OrderedJson> parse(const char* name, std::string_view text) {
  auto json = tokenizer::parse_ordered_json(text);
  if (json) return json;
  return fail(json.error().code, std::string(name) + ": " + json.error().message);
}

Result<void> check_part(const std::string& name, const OrderedJson& part) {
  if (!part.is_object() || !part.contains("type") || !part["type"].is_string()) {
    return invalid_argument(name + " must be an object with a type");
  }
  if (part["type"] != "text") {
    return invalid_argument(name + ".type must be text: the model reads nothing else");
  }
  if (!part.contains("text") || !part["text"].is_string()) {
    return invalid_argument(name + ".text must be a string");
  }
  return {};
}

Result<void> check_content(const std::string& name, const OrderedJson& message) {
  const auto content = message.find("content");
  if (content == message.end()) {
    if (message.contains("tool_calls")) return {};
    return invalid_argument(name + " has no content");
  }
  if (content->is_string() || content->is_null()) return {};
  if (!content->is_array()) {
    return invalid_argument(name + ".content must be a string, null or an array of parts");
  }
  for (size_t i = 0; i < content->size(); ++i) {
    auto checked = check_part(name + ".content[" + number(i) + "]", (*content)[i]);
    if (!checked) return checked;
  }
  return {};
}

Result<void> check_message(const std::string& name, const OrderedJson& message) {
  if (!message.is_object()) return invalid_argument(name + " must be an object");
  const auto role = message.find("role");
  if (role == message.end() || !role->is_string()) {
    return invalid_argument(name + ".role must be a string");
  }
  const size_t role_bytes = role->get_ref<const std::string&>().size();
  if (role_bytes == 0 || role_bytes > kMaxRoleBytes) {
    return invalid_argument("length of " + name + ".role is " + number(role_bytes) +
                            ", must be from 1 to " + number(kMaxRoleBytes) + " bytes");
  }
  const auto tool_calls = message.find("tool_calls");
  if (tool_calls != message.end() && !tool_calls->is_null() && !tool_calls->is_array()) {
    return invalid_argument(name + ".tool_calls must be an array");
  }
  return check_content(name, message);
}

Result<void> check_messages(const OrderedJson& messages, const ServiceLimits& limits) {
  if (!messages.is_array()) return invalid_argument("chat.messages must be an array");
  if (messages.empty()) return invalid_argument("chat.messages is empty, must have a message");
  if (messages.size() > static_cast<size_t>(limits.max_chat_messages)) {
    return invalid_argument("chat.messages has " + number(messages.size()) +
                            " messages, limit is " + std::to_string(limits.max_chat_messages));
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    auto checked = check_message("chat.messages[" + number(i) + "]", messages[i]);
    if (!checked) return checked;
  }
  return {};
}

Result<void> check_tools(const OrderedJson& tools) {
  if (!tools.is_array()) return invalid_argument("chat.tools must be an array");
  for (size_t i = 0; i < tools.size(); ++i) {
    if (!tools[i].is_object()) {
      return invalid_argument("chat.tools[" + number(i) + "] must be an object");
    }
  }
  return {};
}

// What the template gets.
struct ChatInput {
  OrderedJson messages;
  OrderedJson variables = OrderedJson::object();  // the kwargs, and "tools"
};

Result<ChatInput> read_input(const ChatPrompt& chat, const ServiceLimits& limits) {
  const size_t num_bytes = chat.messages.size() + chat.tools.size() + chat.template_kwargs.size();
  if (num_bytes > static_cast<size_t>(limits.max_prompt_bytes)) {
    return invalid_argument("chat has " + number(num_bytes) + " bytes, limit is " +
                            std::to_string(limits.max_prompt_bytes));
  }
  if (chat.messages.empty()) return invalid_argument("chat.messages is empty, must have a message");
  ChatInput input;
  auto messages = parse("chat.messages", chat.messages);
  if (!messages) return std::unexpected(messages.error());
  if (auto checked = check_messages(*messages, limits); !checked) {
    return std::unexpected(checked.error());
  }
  input.messages = std::move(*messages);
  if (!chat.template_kwargs.empty()) {
    auto variables = parse("chat.template_kwargs", chat.template_kwargs);
    if (!variables) return std::unexpected(variables.error());
    if (!variables->is_object()) {
      return invalid_argument("chat.template_kwargs must be an object");
    }
    input.variables = std::move(*variables);
  }
  for (const char* taken : {"messages", "tools", "add_generation_prompt"}) {
    if (!input.variables.contains(taken)) continue;
    return invalid_argument("chat.template_kwargs." + std::string(taken) +
                            " has a field of its own");
  }
  if (!chat.tools.empty()) {
    auto tools = parse("chat.tools", chat.tools);
    if (!tools) return std::unexpected(tools.error());
    if (auto checked = check_tools(*tools); !checked) return std::unexpected(checked.error());
    if (!tools->empty()) input.variables["tools"] = std::move(*tools);
  }
  return input;
}

// Keeps special tokens that clients spell out plain text: a character that no text here has marks
// them while the template renders. The characters are non-characters of Unicode.
class PlainMarks final {
 public:
  // kInvalidArgument if the chat uses all of them, as no text does.
  static Result<PlainMarks> choose(const ChatPrompt& chat) {
    for (char32_t character = 0xFDD0; character <= 0xFDEF; ++character) {
      PlainMarks marks;
      append_utf8(character, &marks.mark_);
      // JSON may write a character as an escape: any escape of these rules it out.
      const bool is_free = std::ranges::none_of(
          std::initializer_list<const std::string*>{&chat.messages, &chat.tools,
                                                    &chat.template_kwargs},
          [&](const std::string* text) { return marks.appears_in(*text, character); });
      if (is_free) return marks;
    }
    return invalid_argument("chat has every non-character from U+FDD0 to U+FDEF in it");
  }

  // Marks the special tokens in all texts of `json`, keys included.
  void add(const Tokenizer& tokenizer, OrderedJson* json) const {
    if (json->is_string()) {
      *json = marked(tokenizer, json->get_ref<const std::string&>());
    } else if (json->is_array()) {
      for (OrderedJson& item : *json) add(tokenizer, &item);
    } else if (json->is_object()) {
      OrderedJson object = OrderedJson::object();
      for (auto& [key, value] : json->items()) {
        add(tokenizer, &value);
        object[marked(tokenizer, key)] = std::move(value);
      }
      *json = std::move(object);
    }
  }

  // Takes the marks out of `text` and returns where they stood.
  std::vector<size_t> take(std::string* text) const {
    std::vector<size_t> places;
    std::string bare;
    size_t done = 0;
    for (size_t pos = text->find(mark_); pos != std::string::npos; pos = text->find(mark_, done)) {
      bare.append(*text, done, pos - done);
      places.push_back(bare.size());
      done = pos + mark_.size();
    }
    if (places.empty()) return places;
    bare.append(*text, done);
    *text = std::move(bare);
    return places;
  }

 private:
  bool appears_in(std::string_view text, char32_t character) const {
    if (text.find(mark_) != std::string_view::npos) return true;
    std::string digits = "fd" + std::string(1, "def"[(character >> 4) - 0xFDD]);
    digits += "0123456789abcdef"[character & 15];
    const auto same = [](char a, char b) { return (a | 0x20) == b; };
    return !std::ranges::search(text, digits, same).empty();
  }

  std::string marked(const Tokenizer& tokenizer, const std::string& text) const {
    std::string with_marks;
    size_t done = 0;
    for (const size_t place : tokenizer.find_special_tokens(text)) {
      with_marks.append(text, done, place - done);
      with_marks += mark_;
      done = place;
    }
    with_marks.append(text, done);
    return with_marks;
  }

  std::string mark_;
};

class ModelChatRenderer final : public ChatRenderer {
 public:
  ModelChatRenderer(tokenizer::ModelChat chat, const Tokenizer& tokenizer)
      : chat_(std::move(chat)), tokenizer_(tokenizer) {
    const auto end = chat_.special_tokens->find("eos_token");
    if (end == chat_.special_tokens->end() || !end->is_string()) return;
    const auto ids = tokenizer_.encode_with_special_tokens(end->get<std::string>(), {});
    if (ids && ids->size() == 1 && tokenizer_.is_special(ids->front())) turn_end_ = ids->front();
  }

  Result<RenderedChat> render(const ChatPrompt& chat, const ServiceLimits& limits) const override {
    auto input = read_input(chat, limits);
    if (!input) return std::unexpected(input.error());
    std::optional<PlainMarks> marks;
    if (!chat.parse_special_tokens) {
      auto chosen = PlainMarks::choose(chat);
      if (!chosen) return std::unexpected(chosen.error());
      marks = std::move(*chosen);
      marks->add(tokenizer_, &input->messages);
      marks->add(tokenizer_, &input->variables);
    }
    auto text = chat_.render(
        input->messages,
        {.add_generation_prompt = chat.add_generation_prompt.value_or(!chat.continue_final_message),
         .continue_final_message = chat.continue_final_message,
         .variables = &input->variables,
         .now = wall_clock()});
    if (!text) return std::unexpected(for_client(text.error()));
    RenderedChat rendered{std::move(*text), {}};
    const auto plain_at = marks ? marks->take(&rendered.text) : std::vector<size_t>();
    if (rendered.text.size() > static_cast<size_t>(limits.max_prompt_bytes)) {
      return invalid_argument("the rendered chat has " + number(rendered.text.size()) +
                              " bytes, limit is " + std::to_string(limits.max_prompt_bytes));
    }
    auto ids = tokenizer_.encode_with_special_tokens(rendered.text, plain_at);
    if (!ids) return std::unexpected(ids.error());
    rendered.token_ids = std::move(*ids);
    return rendered;
  }

  std::optional<int32_t> turn_end_token_id() const override { return turn_end_; }

 private:
  const tokenizer::ModelChat chat_;
  const Tokenizer& tokenizer_;
  std::optional<int32_t> turn_end_;
};

}  // namespace

std::unique_ptr<ChatRenderer> make_chat_renderer(tokenizer::ModelChat chat,
                                                 const Tokenizer& tokenizer) {
  return std::make_unique<ModelChatRenderer>(std::move(chat), tokenizer);
}

}  // namespace sluice::engine
