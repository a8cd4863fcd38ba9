#include "tokenizer/chat/library.h"

namespace sluice::tokenizer::chat {

const Value* ArgumentReader::next(std::string_view name) {
  const size_t position = position_++;
  const Value* found =
      position < arguments_->positional.size() ? &arguments_->positional[position] : nullptr;
  for (const auto& [key, value] : arguments_->named) {
    if (key != name) continue;
    if (found != nullptr) stop(what_ + " has '" + std::string(name) + "' twice");
    ++named_used_;
    found = &value;
  }
  return found;
}

Value ArgumentReader::next_or(std::string_view name, Value default_value) {
  const Value* value = next(name);
  return value != nullptr ? *value : default_value;
}

Value ArgumentReader::required(std::string_view name) {
  const Value* value = next(name);
  if (value == nullptr) stop(what_ + " needs '" + std::string(name) + "'");
  return *value;
}

bool ArgumentReader::flag(std::string_view name, bool default_value) {
  const Value* value = next(name);
  return value != nullptr ? value->truth() : default_value;
}

int64_t ArgumentReader::integer(std::string_view name, int64_t default_value) {
  const Value* value = next(name);
  if (value == nullptr) return default_value;
  if (!value->is_integral()) {
    stop(what_ + " needs an integer for '" + std::string(name) + "', not " + value->description());
  }
  return value->as_integer();
}

std::string ArgumentReader::text(std::string_view name, std::string_view default_value) {
  const Value* value = next(name);
  if (value == nullptr) return std::string(default_value);
  if (!value->is(Kind::kString)) {
    stop(what_ + " needs a string for '" + std::string(name) + "', not " + value->description());
  }
  return value->as_text();
}

void ArgumentReader::done() const {
  if (arguments_->positional.size() > position_) stop(what_ + " has too many arguments");
  if (arguments_->named.size() > named_used_) {
    stop(what_ + " has an argument that it does not know");
  }
}

}  // namespace sluice::tokenizer::chat
