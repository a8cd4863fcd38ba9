#include <nlohmann/json.hpp>
#include <utility>

#include "tokenizer/chat/chat_template.h"
#include "tokenizer/chat/text.h"

namespace sluice::tokenizer {
namespace {

// What shows where the last message ends. Source: transformers 4.57 utils/chat_template_utils.py.
constexpr std::string_view kMark = "CONTINUE_FINAL_MESSAGE_TAG ";

struct MarkedMessages {
  OrderedJson messages;
  std::string final_text;
};

// The text that is to be continued: the last message's content, or its last part with a text.
OrderedJson* find_final_text(OrderedJson& messages) {
  if (!messages.is_array() || messages.empty() || !messages.back().is_object()) return nullptr;
  const auto content = messages.back().find("content");
  if (content == messages.back().end()) return nullptr;
  if (!content->is_array()) return &*content;
  for (auto part = content->rbegin(); part != content->rend(); ++part) {
    if (part->is_object() && part->contains("text")) return &(*part)["text"];
  }
  return nullptr;
}

Result<MarkedMessages> mark_final_message(const OrderedJson& messages) {
  MarkedMessages marked{messages, {}};
  OrderedJson* text = find_final_text(marked.messages);
  if (text == nullptr || !text->is_string()) {
    return invalid_argument("continue_final_message needs a last message with a text");
  }
  marked.final_text = text->get<std::string>();
  *text = marked.final_text + std::string(kMark);
  return marked;
}

Result<std::string> cut_at_mark(std::string text, std::string_view final_text) {
  const std::string_view bare_mark = kMark.substr(0, kMark.size() - 1);
  const size_t place = text.rfind(bare_mark);
  const std::string_view message = chat::strip(final_text, std::nullopt, true, true);
  if (place == std::string::npos || text.find(message) == std::string::npos) {
    return invalid_argument(
        "continue_final_message is set, but the chat template does not show the last message");
  }
  const bool keeps_space = std::string_view(text).substr(place).starts_with(kMark);
  text.resize(place);
  // A template that trims the message would have trimmed the end of it.
  if (!keeps_space) text.resize(text.size() - chat::trailing_space(text));
  return text;
}

}  // namespace

Result<std::string> ModelChat::render(const OrderedJson& messages,
                                      const ChatOptions& options) const {
  OrderedJson variables = *special_tokens;
  bool has_tools = false;
  if (options.variables != nullptr) {
    if (!options.variables->is_object()) {
      return invalid_argument("a chat template's variables must be an object");
    }
    for (const auto& [name, value] : options.variables->items()) variables[name] = value;
    const auto tools = options.variables->find("tools");
    has_tools = tools != options.variables->end() && !tools->is_null();
  }
  ChatOptions with_tokens = options;
  with_tokens.variables = &variables;
  const ChatTemplate& chosen = has_tools && tool_template ? *tool_template : text_template;
  if (!options.continue_final_message) return chosen.render(messages, with_tokens);
  if (options.add_generation_prompt) {
    return invalid_argument("continue_final_message does not go with add_generation_prompt");
  }
  const auto marked = mark_final_message(messages);
  if (!marked) return std::unexpected(marked.error());
  auto text = chosen.render(marked->messages, with_tokens);
  if (!text) return text;
  return cut_at_mark(*std::move(text), marked->final_text);
}

}  // namespace sluice::tokenizer
