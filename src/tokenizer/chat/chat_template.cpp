#include "tokenizer/chat/chat_template.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/utf8.h"
#include "tokenizer/chat/interpreter.h"
#include "tokenizer/chat/parser.h"

namespace sluice::tokenizer {
namespace {

using chat::Budget;
using chat::Failure;
using chat::Value;

constexpr int kMaxJsonDepth = 64;

Error to_error(const Failure& failure, int line) {
  constexpr size_t kMaxReasonBytes = 512;
  std::string reason = failure.reason.substr(0, kMaxReasonBytes);
  // The cut may not leave half a character.
  std::string whole;
  append_repaired_utf8(reason, false, Utf8Repair::kMaximalSubpart, &whole);
  const int at = failure.line > 0 ? failure.line : line;
  return {failure.code, "chat template, line " + std::to_string(at) + ": " + whole};
}

Value to_value(const OrderedJson& json, int depth) {
  if (depth > kMaxJsonDepth) {
    chat::stop("the input is nested more than " + std::to_string(kMaxJsonDepth) + " deep");
  }
  switch (json.type()) {
    case OrderedJson::value_t::boolean:
      return Value::boolean(json.get<bool>());
    case OrderedJson::value_t::number_integer:
      return Value::integer(json.get<int64_t>());
    case OrderedJson::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        chat::stop("the input has an integer out of range");
      }
      return Value::integer(json.get<int64_t>());
    case OrderedJson::value_t::number_float:
      return Value::number(json.get<double>());
    case OrderedJson::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      if (find_ill_formed_utf8(text) != std::string::npos) {
        chat::stop("the input has text that is not UTF-8");
      }
      return Value::text(text);
    }
    case OrderedJson::value_t::array: {
      chat::List items;
      items.reserve(json.size());
      for (const OrderedJson& item : json) items.push_back(to_value(item, depth + 1));
      return Value::list(std::move(items));
    }
    case OrderedJson::value_t::object: {
      chat::Dict entries;
      entries.reserve(json.size());
      for (const auto& [key, value] : json.items()) {
        if (find_ill_formed_utf8(key) != std::string::npos) {
          chat::stop("the input has a key that is not UTF-8");
        }
        entries.emplace_back(Value::text(key), to_value(value, depth + 1));
      }
      return Value::dict(std::move(entries));
    }
    default:
      return Value::none();
  }
}

// Most keys of one object, at any depth.
size_t widest_object(const Json& json) {
  size_t widest = json.is_object() ? json.size() : 0;
  if (json.is_structured()) {
    for (const Json& child : json) widest = std::max(widest, widest_object(child));
  }
  return widest;
}

}  // namespace

Result<OrderedJson> parse_ordered_json(std::string_view text) {
  constexpr size_t kMaxKeys = 1024;  // looking one up is linear
  const auto checked = parse_json(text, kMaxJsonDepth);
  if (!checked) return std::unexpected(checked.error());
  if (const size_t keys = widest_object(*checked); keys > kMaxKeys) {
    return invalid_argument("JSON has an object with " + std::to_string(keys) + " keys, limit is " +
                            std::to_string(kMaxKeys));
  }
  return OrderedJson::parse(text.begin(), text.end(), nullptr, false);
}

struct ChatTemplate::Parsed {
  chat::Body body;
  ChatLimits limits;
};

ChatTemplate::ChatTemplate(std::unique_ptr<const Parsed> parsed) : parsed_(std::move(parsed)) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

Result<ChatTemplate> ChatTemplate::compile(std::string_view source, const ChatLimits& limits) {
  if (source.size() > limits.max_template_bytes) {
    return fail(ErrorCode::kResourceExhausted,
                "chat template has " + std::to_string(source.size()) + " bytes, limit is " +
                    std::to_string(limits.max_template_bytes));
  }
  if (find_ill_formed_utf8(source) != std::string_view::npos) {
    return invalid_argument("chat template is not UTF-8");
  }
  try {
    auto parsed = std::make_unique<Parsed>();
    parsed->body = chat::parse_template(source);
    parsed->limits = limits;
    return ChatTemplate(std::move(parsed));
  } catch (const Failure& failure) {
    return std::unexpected(to_error(failure, 1));
  }
}

Result<std::string> ChatTemplate::render(const OrderedJson& messages,
                                         const ChatOptions& options) const {
  if (!messages.is_array()) return invalid_argument("messages must be an array");
  const bool has_variables = options.variables != nullptr;
  if (has_variables && !options.variables->is_object()) {
    return invalid_argument("a chat template's variables must be an object");
  }
  Budget budget(parsed_->limits.max_steps, parsed_->limits.max_output_bytes);
  chat::Interpreter interpreter({.budget = &budget,
                                 .max_output_bytes = parsed_->limits.max_output_bytes,
                                 .now = options.now});
  try {
    interpreter.define("messages", to_value(messages, 0));
    interpreter.define("tools", Value::none());
    interpreter.define("documents", Value::none());
    interpreter.define("add_generation_prompt", Value::boolean(options.add_generation_prompt));
    if (has_variables) {
      for (const auto& item : options.variables->items()) {
        // The object's own key: it outlives the run.
        const std::string& name = options.variables->find(item.key()).key();
        if (name == "messages" || name == "add_generation_prompt") {
          chat::stop("'" + name + "' cannot be a variable");
        }
        interpreter.define(name, to_value(item.value(), 0));
      }
    }
    return interpreter.run(parsed_->body);
  } catch (const Failure& failure) {
    return std::unexpected(to_error(failure, interpreter.line()));
  }
}

}  // namespace sluice::tokenizer
