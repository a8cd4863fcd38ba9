#include "server/grpc/convert_chat.h"

#include <string>
#include <string_view>
#include <utility>

#include "base/json.h"

namespace sluice::server {
namespace {

// Appends `"key": "text"`, with a comma if it is not the first.
void add_member(std::string_view key, const std::string& text, std::string* json) {
  if (!json->ends_with('{')) *json += ", ";
  *json += '"';
  *json += key;
  *json += "\": ";
  *json += Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<void> add_message(const v1::ChatMessage& message, int index, std::string* json) {
  *json += json->ends_with('[') ? "{" : ", {";
  add_member("role", message.role(), json);
  if (message.has_content()) add_member("content", message.content(), json);
  if (message.has_name()) add_member("name", message.name(), json);
  if (!message.tool_calls_json().empty()) {
    // Read here, so that a text that ends the object early cannot change another part of the list.
    if (const auto parsed = parse_json(message.tool_calls_json()); !parsed) {
      return invalid_argument("chat.messages[" + std::to_string(index) +
                              "].tool_calls_json: " + parsed.error().message);
    }
    // A text may begin with a byte order mark, what stands inside of one may not.
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    std::string_view calls = message.tool_calls_json();
    if (calls.starts_with(kByteOrderMark)) calls.remove_prefix(kByteOrderMark.size());
    *json += ", \"tool_calls\": ";
    *json += calls;
  }
  if (message.has_tool_call_id()) add_member("tool_call_id", message.tool_call_id(), json);
  *json += '}';
  return {};
}

}  // namespace

Result<ChatPrompt> chat_from_proto(v1::Chat&& message) {
  ChatPrompt chat;
  if (message.messages_size() > 0 && !message.messages_json().empty()) {
    return invalid_argument("chat.messages and chat.messages_json are both set, must be one");
  }
  if (message.messages_size() > 0) {
    chat.messages = "[";
    for (int i = 0; i < message.messages_size(); ++i) {
      if (auto added = add_message(message.messages(i), i, &chat.messages); !added) {
        return std::unexpected(added.error());
      }
    }
    chat.messages += ']';
  } else {
    chat.messages = std::move(*message.mutable_messages_json());
  }
  chat.tools = std::move(*message.mutable_tools_json());
  chat.template_kwargs = std::move(*message.mutable_template_kwargs_json());
  if (message.has_add_generation_prompt()) {
    chat.add_generation_prompt = message.add_generation_prompt();
  }
  chat.continue_final_message = message.continue_final_message();
  if (message.has_parse_special_tokens()) {
    chat.parse_special_tokens = message.parse_special_tokens();
  }
  return chat;
}

v1::Chat to_proto(const ChatPrompt& chat) {
  v1::Chat message;
  message.set_messages_json(chat.messages);
  message.set_tools_json(chat.tools);
  message.set_template_kwargs_json(chat.template_kwargs);
  if (chat.add_generation_prompt) {
    message.set_add_generation_prompt(*chat.add_generation_prompt);
  }
  message.set_continue_final_message(chat.continue_final_message);
  message.set_parse_special_tokens(chat.parse_special_tokens);
  return message;
}

}  // namespace sluice::server
