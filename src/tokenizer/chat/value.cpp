#include "tokenizer/chat/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "tokenizer/chat/text.h"

namespace sluice::tokenizer::chat {

void stop(std::string reason) {
  throw Failure{ErrorCode::kInvalidArgument, std::move(reason)};
}
void stop_unsupported(std::string reason) {
  throw Failure{ErrorCode::kUnimplemented, std::move(reason) + " is not supported"};
}

void Budget::take_steps(size_t count) {
  if (count > steps_left_) {
    throw Failure{ErrorCode::kResourceExhausted,
                  "takes more than " + std::to_string(max_steps_) + " steps"};
  }
  steps_left_ -= count;
}

void Budget::take_bytes(size_t bytes) {
  if (bytes > max_value_bytes_) {
    throw Failure{ErrorCode::kResourceExhausted,
                  "makes a text of more than " + std::to_string(max_value_bytes_) + " bytes"};
  }
  take_steps(bytes / 16);
}

Value Value::undefined(std::string what) {
  Value value;
  value.object_ = std::make_shared<const std::string>(std::move(what));
  return value;
}
Value Value::boolean(bool value) {
  Value made(Kind::kBool);
  made.scalar_.integer = value ? 1 : 0;
  return made;
}
Value Value::integer(int64_t value) {
  Value made(Kind::kInt);
  made.scalar_.integer = value;
  return made;
}
Value Value::number(double value) {
  Value made(Kind::kFloat);
  made.scalar_.number = value;
  return made;
}
Value Value::text(std::string value) {
  Value made(Kind::kString);
  made.object_ = std::make_shared<const std::string>(std::move(value));
  return made;
}

namespace {
uint8_t deeper(int depth) {
  if (depth >= Value::kMaxDepth) {
    throw Failure{ErrorCode::kResourceExhausted,
                  "nests lists more than " + std::to_string(Value::kMaxDepth) + " deep"};
  }
  return static_cast<uint8_t>(depth + 1);
}
}  // namespace

Value Value::list(List items, Kind kind) {
  Value made(kind);
  int deepest = 0;
  for (const Value& item : items) deepest = std::max<int>(deepest, item.depth_);
  made.depth_ = deeper(deepest);
  made.object_ = std::make_shared<const List>(std::move(items));
  return made;
}
Value Value::dict(Dict entries) {
  Value made(Kind::kDict);
  int deepest = 0;
  for (const auto& [key, value] : entries) {
    deepest = std::max<int>({deepest, key.depth_, value.depth_});
  }
  made.depth_ = deeper(deepest);
  made.object_ = std::make_shared<const Dict>(std::move(entries));
  return made;
}
Value Value::of(Namespace* value) {
  Value made(Kind::kNamespace);
  made.scalar_.pointer = value;
  return made;
}
Value Value::of(const Macro* value) {
  Value made(Kind::kMacro);
  made.scalar_.pointer = const_cast<Macro*>(value);
  return made;
}
Value Value::of(std::shared_ptr<const Loop> value) {
  Value made(Kind::kLoop);
  int deepest = 0;
  for (const Value& item : value->items) deepest = std::max<int>(deepest, item.depth_);
  made.depth_ = deeper(deepest);
  made.object_ = std::move(value);
  return made;
}
Value Value::of(Function value) {
  Value made(Kind::kFunction);
  made.scalar_.integer = static_cast<int64_t>(value);
  return made;
}
Value Value::method(const Value& self, std::string name) {
  Value made(Kind::kMethod);
  made.depth_ = deeper(self.depth_);
  made.object_ = std::make_shared<const Method>(Method{self, std::move(name)});
  return made;
}

double Value::as_number() const {
  return kind_ == Kind::kFloat ? scalar_.number : static_cast<double>(scalar_.integer);
}

bool Value::truth() const {
  switch (kind_) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return scalar_.integer != 0;
    case Kind::kFloat:
      return scalar_.number != 0;
    case Kind::kString:
      return !as_text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !as_list().empty();
    case Kind::kDict:
      return !as_dict().empty();
    default:
      return true;
  }
}

std::string Value::description() const {
  static constexpr const char* kNames[] = {
      "an undefined value", "none",   "a bool",  "an integer",  "a float",
      "a string",           "a list", "a tuple", "a generator", "a dict",
      "a namespace",        "loop",   "a macro", "a function",  "a method"};
  if (kind_ == Kind::kUndefined && object_) return as_text();
  return kNames[static_cast<size_t>(kind_)];
}

const Value* find(const Dict& dict, std::string_view key) {
  for (const auto& [name, value] : dict) {
    if (name.is(Kind::kString) && name.as_text() == key) return &value;
  }
  return nullptr;
}

namespace {

bool equal_lists(const List& left, const List& right, Budget* budget) {
  if (left.size() != right.size()) return false;
  for (size_t i = 0; i < left.size(); ++i) {
    if (!equal(left[i], right[i], budget)) return false;
  }
  return true;
}

bool equal_dicts(const Dict& left, const Dict& right, Budget* budget) {
  if (left.size() != right.size()) return false;
  for (const auto& [key, value] : left) {
    bool found = false;
    for (const auto& [other_key, other] : right) {
      if (!equal(key, other_key, budget)) continue;
      found = equal(value, other, budget);
      break;
    }
    if (!found) return false;
  }
  return true;
}

}  // namespace

bool equal(const Value& left, const Value& right, Budget* budget) {
  budget->take_steps(1);
  if (left.is_integral() && right.is_integral()) return left.as_integer() == right.as_integer();
  if (left.is_number() && right.is_number()) return left.as_number() == right.as_number();
  if (left.kind() != right.kind()) return false;
  switch (left.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      budget->take_steps(left.as_text().size() / 256);
      return left.as_text() == right.as_text();
    case Kind::kList:
    case Kind::kTuple:
      return equal_lists(left.as_list(), right.as_list(), budget);
    case Kind::kDict:
      return equal_dicts(left.as_dict(), right.as_dict(), budget);
    case Kind::kNamespace:
      return left.as_namespace() == right.as_namespace();
    case Kind::kMacro:
      return left.as_macro() == right.as_macro();
    default:
      stop("cannot compare " + left.description() + " with " + right.description());
  }
}

bool less(const Value& left, const Value& right, Budget* budget) {
  budget->take_steps(1);
  if (left.is_integral() && right.is_integral()) return left.as_integer() < right.as_integer();
  if (left.is_number() && right.is_number()) return left.as_number() < right.as_number();
  // Bytes of UTF-8 sort as the characters do.
  if (left.is(Kind::kString) && right.is(Kind::kString)) return left.as_text() < right.as_text();
  const bool are_lists =
      left.kind() == right.kind() && (left.is(Kind::kList) || left.is(Kind::kTuple));
  if (!are_lists) {
    stop("cannot order " + left.description() + " and " + right.description());
  }
  const List& a = left.as_list();
  const List& b = right.as_list();
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (!equal(a[i], b[i], budget)) return less(a[i], b[i], budget);
  }
  return a.size() < b.size();
}

bool contains(const Value& container, const Value& item, Budget* budget) {
  if (container.is(Kind::kUndefined)) return false;
  if (container.is(Kind::kString)) {
    if (!item.is(Kind::kString)) stop("'in' of a string needs a string, not " + item.description());
    budget->take_steps(container.as_text().size() / 64);
    return container.as_text().find(item.as_text()) != std::string::npos;
  }
  if (container.is_sequence()) {
    return std::ranges::any_of(container.as_list(),
                               [&](const Value& each) { return equal(each, item, budget); });
  }
  if (container.is(Kind::kDict)) {
    return std::ranges::any_of(container.as_dict(),
                               [&](const auto& each) { return equal(each.first, item, budget); });
  }
  stop("'in' needs a string, list or dict, not " + container.description());
}

size_t length(const Value& value) {
  if (value.is(Kind::kUndefined)) return 0;
  if (value.is(Kind::kString)) return count_characters(value.as_text());
  if (value.is(Kind::kList) || value.is(Kind::kTuple)) return value.as_list().size();
  if (value.is(Kind::kDict)) return value.as_dict().size();
  if (value.is(Kind::kLoop)) return value.as_loop().items.size();
  stop(value.description() + " has no length");
}

List iterate(const Value& value, Budget* budget) {
  List items;
  if (value.is(Kind::kUndefined)) return items;
  if (value.is_sequence()) {
    budget->take_elements(value.as_list().size());
    return value.as_list();
  }
  if (value.is(Kind::kDict)) {
    budget->take_elements(value.as_dict().size());
    for (const auto& [key, each] : value.as_dict()) items.push_back(key);
    return items;
  }
  if (value.is(Kind::kString)) {
    budget->take_elements(value.as_text().size());
    for (std::string& character : split_characters(value.as_text())) {
      items.push_back(Value::text(std::move(character)));
    }
    return items;
  }
  stop(value.description() + " cannot be looped over");
}

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const double magnitude = std::fabs(value);
  // Python writes the shortest digits that read back, with an exponent below 1e-4 and from 1e16.
  const bool is_plain = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  const auto format = is_plain ? std::chars_format::fixed : std::chars_format::scientific;
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, format).ptr;
  std::string text(buffer, end);
  if (is_plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string to_text(const Value& value, Budget* budget) {
  if (value.is(Kind::kString)) return value.as_text();
  if (value.is(Kind::kUndefined)) return "";
  std::string text;
  append_repr(value, budget, &text);
  budget->take_bytes(text.size());
  return text;
}

namespace {

void append_list_repr(const Value& value, Budget* budget, std::string* out) {
  const List& items = value.as_list();
  const bool is_tuple = value.is(Kind::kTuple);
  *out += is_tuple ? '(' : '[';
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) *out += ", ";
    append_repr(items[i], budget, out);
  }
  if (is_tuple && items.size() == 1) *out += ',';
  *out += is_tuple ? ')' : ']';
}

void append_dict_repr(const Dict& entries, Budget* budget, std::string* out) {
  *out += '{';
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0) *out += ", ";
    append_repr(entries[i].first, budget, out);
    *out += ": ";
    append_repr(entries[i].second, budget, out);
  }
  *out += '}';
}

}  // namespace

void append_repr(const Value& value, Budget* budget, std::string* out) {
  budget->take_steps(1);
  switch (value.kind()) {
    case Kind::kUndefined:
      *out += "Undefined";
      return;
    case Kind::kNone:
      *out += "None";
      return;
    case Kind::kBool:
      *out += value.truth() ? "True" : "False";
      return;
    case Kind::kInt:
      *out += std::to_string(value.as_integer());
      return;
    case Kind::kFloat:
      *out += number_text(value.as_number());
      return;
    case Kind::kString:
      budget->take_bytes(value.as_text().size());
      append_quoted(value.as_text(), out);
      return;
    case Kind::kList:
    case Kind::kTuple:
      append_list_repr(value, budget, out);
      return;
    case Kind::kDict:
      append_dict_repr(value.as_dict(), budget, out);
      return;
    default:
      stop("cannot print " + value.description());
  }
}

}  // namespace sluice::tokenizer::chat
