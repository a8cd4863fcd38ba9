#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "sluice/error.h"

namespace sluice::tokenizer {

// Keeps the order of an object's keys: `tojson` shows it to the model.
using OrderedJson = nlohmann::ordered_json;

// parse_json for what templates render: as strict, in the order of the text. An object may have
// 1,024 keys.
Result<OrderedJson> parse_ordered_json(std::string_view text);

// What a template may use; beyond it kResourceExhausted.
struct ChatLimits {
  size_t max_template_bytes = 1 << 20;
  size_t max_output_bytes = 16 << 20;  // and each text on the way
  size_t max_steps = 20'000'000;       // evaluated nodes; about a second
};

struct ChatOptions {
  bool add_generation_prompt = true;
  // The last message stays open. ModelChat::render only; not with add_generation_prompt.
  bool continue_final_message = false;
  // What a template sees beside the messages, as one object: "tools", "documents", special tokens
  // and the request's own variables. tools and documents are none if absent.
  const OrderedJson* variables = nullptr;
  std::chrono::local_seconds now = {};  // what strftime_now formats: the user's wall clock
};

// A chat template: the part of Jinja that published ones use, with Transformers' settings and its
// functions, so that the text is what Transformers' apply_chat_template gives.
//
// What it does not have, of Jinja or of Python, is refused by name. Differences that remain: map
// and select give their items more often than once; upper and lower map one character to one.
// Threads: rendering is safe from any, at the same time.
// Source: Jinja 3.1 documentation; transformers 4.57 utils/chat_template_utils.py.
class ChatTemplate final {
 public:
  // kInvalidArgument with the line, kUnimplemented for what is not supported.
  static Result<ChatTemplate> compile(std::string_view source, const ChatLimits& limits = {});
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // The prompt for these messages (an array of objects). Errors name the line; what the template
  // itself raises is kInvalidArgument with its words.
  Result<std::string> render(const OrderedJson& messages, const ChatOptions& options) const;

 private:
  struct Parsed;
  explicit ChatTemplate(std::unique_ptr<const Parsed> parsed);

  std::unique_ptr<const Parsed> parsed_;
};

// What a model folder says about chats.
struct ModelChat {
  ChatTemplate text_template;
  std::optional<ChatTemplate> tool_template;          // where requests with tools have their own
  std::unique_ptr<const OrderedJson> special_tokens;  // object: bos_token, eos_token, ...

  // `variables` with the special tokens below them. With continue_final_message, kInvalidArgument
  // if the template does not show the last message's end.
  Result<std::string> render(const OrderedJson& messages, const ChatOptions& options) const;
};

// Reads chat_template.jinja, else "chat_template" of tokenizer_config.json (a text, or a list of
// named ones: "default" and "tool_use"), and the special tokens of tokenizer_config.json and
// special_tokens_map.json. kNotFound if the folder has no template; other errors name the file.
Result<ModelChat> load_chat_template(const std::filesystem::path& folder,
                                     const ChatLimits& limits = {});

}  // namespace sluice::tokenizer
