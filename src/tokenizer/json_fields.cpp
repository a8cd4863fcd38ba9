#include "tokenizer/json_fields.h"

#include <algorithm>

namespace sluice::tokenizer {
namespace {

// Long or strange values of a file are not repeated in full.
std::string for_message(std::string_view value) {
  constexpr size_t kMaxShown = 40;
  std::string shown = "\"";
  for (const char c : value.substr(0, kMaxShown)) {
    shown += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
  }
  return shown + (value.size() > kMaxShown ? "...\"" : "\"");
}

}  // namespace

std::string JsonFields::type() const {
  const Json* value = find("type");
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

const Json* JsonFields::find(std::string_view field) const {
  const auto found = object_->find(field);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

Result<bool> JsonFields::boolean(std::string_view field, bool default_value) const {
  const Json* value = find(field);
  if (value == nullptr) return default_value;
  if (!value->is_boolean()) return std::unexpected(wrong_type(field, "true or false"));
  return value->get<bool>();
}

Result<std::string> JsonFields::text(std::string_view field, std::string_view default_value) const {
  const Json* value = find(field);
  if (value == nullptr) return std::string(default_value);
  if (!value->is_string()) return std::unexpected(wrong_type(field, "a string"));
  return value->get<std::string>();
}

Result<int64_t> JsonFields::integer(std::string_view field) const {
  const Json* value = find(field);
  if (value == nullptr || !value->is_number_integer()) {
    return std::unexpected(wrong_type(field, "an integer"));
  }
  if (value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX) {
    return std::unexpected(wrong_type(field, "an integer of 63 bits"));
  }
  return value->get<int64_t>();
}

Result<void> JsonFields::only(std::initializer_list<std::string_view> known) const {
  for (const auto& [name, value] : object_->items()) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return fail(ErrorCode::kUnimplemented,
                  "field " + path_ + for_message(name) + " is not supported");
    }
  }
  return {};
}

Error JsonFields::wrong_type(std::string_view field, std::string_view expected) const {
  return {ErrorCode::kInvalidArgument, name_of(field) + " must be " + std::string(expected)};
}

Error JsonFields::unsupported(std::string_view field, std::string_view value) const {
  return {ErrorCode::kUnimplemented,
          name_of(field) + " = " + for_message(value) + " is not supported"};
}

}  // namespace sluice::tokenizer
