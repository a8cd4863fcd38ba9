#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "tokenizer/chat/library.h"
#include "tokenizer/chat/text.h"

namespace sluice::tokenizer::chat {
namespace {

[[noreturn]] void stop_overflow() {
  stop("an integer is out of range");
}

int64_t floor_divide(int64_t left, int64_t right) {
  if (right == 0) stop("division by zero");
  if (right == -1) {
    int64_t negated;
    if (__builtin_sub_overflow(int64_t{0}, left, &negated)) stop_overflow();
    return negated;
  }
  const int64_t quotient = left / right;
  const bool rounds_up = left % right != 0 && (left < 0) != (right < 0);
  return rounds_up ? quotient - 1 : quotient;
}

int64_t integer_power(int64_t base, int64_t exponent) {
  int64_t power = 1;
  for (int64_t i = 0; i < exponent && power != 0; ++i) {
    if (base == 1 || (base == -1 && i == 2)) return i == 0 || exponent % 2 != 0 ? base : 1;
    if (__builtin_mul_overflow(power, base, &power)) stop_overflow();
  }
  return power;
}

Value integer_binary(std::string_view name, int64_t left, int64_t right) {
  int64_t result = 0;
  if (name == "+") {
    if (__builtin_add_overflow(left, right, &result)) stop_overflow();
  } else if (name == "-") {
    if (__builtin_sub_overflow(left, right, &result)) stop_overflow();
  } else if (name == "*") {
    if (__builtin_mul_overflow(left, right, &result)) stop_overflow();
  } else if (name == "//") {
    result = floor_divide(left, right);
  } else if (name == "%") {
    result = right == -1 ? 0 : left - floor_divide(left, right) * right;
  } else if (name == "**" && right >= 0) {
    result = integer_power(left, right);
  } else if (name == "**") {
    if (left == 0) stop("division by zero");
    return Value::number(std::pow(static_cast<double>(left), static_cast<double>(right)));
  } else {  // "/"
    if (right == 0) stop("division by zero");
    return Value::number(static_cast<double>(left) / static_cast<double>(right));
  }
  return Value::integer(result);
}

Value float_binary(std::string_view name, double left, double right) {
  if (name == "+") return Value::number(left + right);
  if (name == "-") return Value::number(left - right);
  if (name == "*") return Value::number(left * right);
  if (name == "**") {
    if (left < 0 && right != std::floor(right)) stop_unsupported("a complex number");
    return Value::number(std::pow(left, right));
  }
  if (right == 0) stop("division by zero");
  if (name == "/") return Value::number(left / right);
  if (name == "//") return Value::number(std::floor(left / right));
  double rest = std::fmod(left, right);
  if (rest != 0 && (rest < 0) != (right < 0)) rest += right;
  return Value::number(rest);
}

Value repeat(const Value& what, int64_t times, Budget* budget) {
  const auto count = static_cast<size_t>(std::max<int64_t>(times, 0));
  const size_t size = what.is(Kind::kString) ? what.as_text().size() : what.as_list().size();
  if (size > 0 && count > std::numeric_limits<int32_t>::max() / size) {
    budget->take_bytes(std::numeric_limits<size_t>::max());
  }
  if (what.is(Kind::kString)) {
    budget->take_bytes(size * count);
    std::string text;
    for (size_t i = 0; size > 0 && i < count; ++i) text += what.as_text();
    return Value::text(std::move(text));
  }
  budget->take_elements(size * count);
  List items;
  for (size_t i = 0; size > 0 && i < count; ++i) {
    items.insert(items.end(), what.as_list().begin(), what.as_list().end());
  }
  return Value::list(std::move(items), what.kind());
}

Value add(const Value& left, const Value& right, Budget* budget) {
  if (left.is(Kind::kString)) {
    budget->take_bytes(left.as_text().size() + right.as_text().size());
    return Value::text(left.as_text() + right.as_text());
  }
  budget->take_elements(left.as_list().size() + right.as_list().size());
  List items = left.as_list();
  items.insert(items.end(), right.as_list().begin(), right.as_list().end());
  return Value::list(std::move(items), left.kind());
}

bool can_repeat(const Value& value) {
  return value.is(Kind::kString) || value.is(Kind::kList) || value.is(Kind::kTuple);
}

}  // namespace

Value apply_binary(std::string_view name, const Value& left, const Value& right, Budget* budget) {
  if (left.is_integral() && right.is_integral()) {
    return integer_binary(name, left.as_integer(), right.as_integer());
  }
  if (left.is_number() && right.is_number()) {
    return float_binary(name, left.as_number(), right.as_number());
  }
  if (name == "+" && left.kind() == right.kind() && can_repeat(left)) {
    return add(left, right, budget);
  }
  if (name == "*" && can_repeat(left) && right.is_integral()) {
    return repeat(left, right.as_integer(), budget);
  }
  if (name == "*" && can_repeat(right) && left.is_integral()) {
    return repeat(right, left.as_integer(), budget);
  }
  if (name == "%" && left.is(Kind::kString)) stop_unsupported("formatting a string with '%'");
  stop("cannot compute " + left.description() + " " + std::string(name) + " " +
       right.description());
}

Value apply_unary(std::string_view name, const Value& operand) {
  if (operand.is_integral()) {
    return name == "-" ? integer_binary("-", 0, operand.as_integer())
                       : Value::integer(operand.as_integer());
  }
  if (operand.is(Kind::kFloat)) {
    return Value::number(name == "-" ? -operand.as_number() : operand.as_number());
  }
  stop("cannot compute " + std::string(name) + " of " + operand.description());
}

bool compare(std::string_view name, const Value& left, const Value& right, Budget* budget) {
  if (name == "==") return equal(left, right, budget);
  if (name == "!=") return !equal(left, right, budget);
  if (name == "<") return less(left, right, budget);
  if (name == ">") return less(right, left, budget);
  if (name == "in") return contains(right, left, budget);
  if (name == "not in") return !contains(right, left, budget);
  const bool or_less = name == "<=";
  // Not the negation of the opposite: NaN.
  return (or_less ? less(left, right, budget) : less(right, left, budget)) ||
         equal(left, right, budget);
}

namespace {

// Names that are methods in Python, so that they come before a dict's keys.
bool has_method(const Value& object, std::string_view name) {
  static constexpr std::string_view kOfStrings[] = {
      "strip",        "lstrip",       "rstrip",       "split",      "rsplit",      "splitlines",
      "startswith",   "endswith",     "upper",        "lower",      "title",       "capitalize",
      "replace",      "find",         "rfind",        "index",      "count",       "join",
      "isdigit",      "isalpha",      "isspace",      "isalnum",    "isupper",     "islower",
      "removeprefix", "removesuffix", "format",       "encode",     "center",      "ljust",
      "rjust",        "zfill",        "partition",    "rpartition", "casefold",    "swapcase",
      "isnumeric",    "isdecimal",    "isidentifier", "istitle",    "isprintable", "isascii",
      "expandtabs",   "translate",    "maketrans",    "format_map", "rindex"};
  static constexpr std::string_view kOfDicts[] = {"get",   "items",   "keys",    "values",
                                                  "copy",  "update",  "pop",     "setdefault",
                                                  "clear", "popitem", "fromkeys"};
  static constexpr std::string_view kOfLists[] = {"index",  "count",  "append",  "extend",
                                                  "insert", "remove", "reverse", "sort",
                                                  "pop",    "clear",  "copy"};
  const auto has = [&](const auto& names) {
    return std::ranges::find(names, name) != std::end(names);
  };
  switch (object.kind()) {
    case Kind::kString:
      return has(kOfStrings);
    case Kind::kDict:
      return has(kOfDicts);
    case Kind::kList:
      return has(kOfLists);
    case Kind::kTuple:
      return name == "index" || name == "count";
    case Kind::kLoop:
      return name == "cycle" || name == "changed";
    default:
      return false;
  }
}

Value loop_attribute(const Loop& loop, std::string_view name) {
  const auto index = static_cast<int64_t>(loop.index);
  const auto count = static_cast<int64_t>(loop.items.size());
  if (name == "index") return Value::integer(index + 1);
  if (name == "index0") return Value::integer(index);
  if (name == "revindex") return Value::integer(count - index);
  if (name == "revindex0") return Value::integer(count - index - 1);
  if (name == "first") return Value::boolean(index == 0);
  if (name == "last") return Value::boolean(index == count - 1);
  if (name == "length") return Value::integer(count);
  if (name == "depth") return Value::integer(1);
  if (name == "depth0") return Value::integer(0);
  if (name == "previtem") {
    return index > 0 ? loop.items[loop.index - 1]
                     : Value::undefined("the item before the first, which is undefined");
  }
  if (name == "nextitem") {
    return index + 1 < count ? loop.items[loop.index + 1]
                             : Value::undefined("the item after the last, which is undefined");
  }
  return Value::undefined("loop." + std::string(name) + ", which is undefined");
}

Value missing(const Value& object, std::string_view name) {
  return Value::undefined("'" + std::string(name.substr(0, 64)) + "' of " + object.description() +
                          ", which is undefined");
}

// The attribute that is not an item.
std::optional<Value> plain_attribute(const Value& object, std::string_view name) {
  if (has_method(object, name)) return Value::method(object, std::string(name));
  if (object.is(Kind::kLoop)) return loop_attribute(object.as_loop(), name);
  if (object.is(Kind::kNamespace)) {
    for (const auto& [field, value] : object.as_namespace()->fields) {
      if (field == name) return value;
    }
  }
  if (object.is(Kind::kMacro) || object.is(Kind::kFunction) || object.is(Kind::kMethod)) {
    stop_unsupported("an attribute of " + object.description());
  }
  return std::nullopt;
}

void refuse_undefined(const Value& object) {
  if (object.is(Kind::kUndefined)) stop("reads from " + object.description());
}

// The index counted from the start; nothing if it is out of range.
std::optional<size_t> resolve_index(int64_t index, size_t size) {
  const auto count = static_cast<int64_t>(size);
  if (index < 0) index += count;
  if (index < 0 || index >= count) return std::nullopt;
  return static_cast<size_t>(index);
}

}  // namespace

Value get_attribute(const Value& object, std::string_view name, Budget* budget) {
  refuse_undefined(object);
  if (std::optional<Value> value = plain_attribute(object, name)) return *value;
  if (object.is(Kind::kDict)) {
    budget->take_steps(object.as_dict().size() / 16);
    if (const Value* value = find(object.as_dict(), name)) return *value;
  }
  return missing(object, name);
}

Value get_item(const Value& object, const Value& key, Budget* budget) {
  refuse_undefined(object);
  if (object.is(Kind::kDict)) {
    budget->take_steps(object.as_dict().size() / 16);
    for (const auto& [name, value] : object.as_dict()) {
      if (equal(name, key, budget)) return value;
    }
  } else if (key.is_integral() && (object.is(Kind::kList) || object.is(Kind::kTuple))) {
    const auto index = resolve_index(key.as_integer(), object.as_list().size());
    if (index) return object.as_list()[*index];
  } else if (key.is_integral() && object.is(Kind::kString)) {
    budget->take_bytes(object.as_text().size());
    const auto index = resolve_index(key.as_integer(), count_characters(object.as_text()));
    if (index) return Value::text(std::string(characters(object.as_text(), *index, *index + 1)));
  }
  if (!key.is(Kind::kString)) return missing(object, key.description());
  if (std::optional<Value> value = plain_attribute(object, key.as_text())) return *value;
  return missing(object, key.as_text());
}

Value get_slice(const Value& object, const Value (&bounds)[3], Budget* budget) {
  refuse_undefined(object);
  if (!object.is(Kind::kString) && !object.is(Kind::kList) && !object.is(Kind::kTuple)) {
    return missing(object, "a slice");
  }
  const auto bound = [&](const Value& value, int64_t absent) {
    if (value.is(Kind::kNone)) return absent;
    if (!value.is_integral()) stop("a slice needs integers, not " + value.description());
    return value.as_integer();
  };
  const auto count = static_cast<int64_t>(length(object));
  const int64_t step = bound(bounds[2], 1);
  if (step == 0) stop("a slice's step is zero");
  const int64_t lowest = step > 0 ? 0 : -1;
  const int64_t highest = step > 0 ? count : count - 1;
  const auto clamp = [&](const Value& value, int64_t absent) {
    if (value.is(Kind::kNone)) return absent;
    int64_t at = bound(value, 0);
    if (at < 0) at += count;
    return std::clamp(at, lowest, highest);
  };
  const int64_t from = clamp(bounds[0], step > 0 ? lowest : highest);
  const int64_t to = clamp(bounds[1], step > 0 ? highest : lowest);
  if (object.is(Kind::kString) && step == 1) {
    budget->take_bytes(object.as_text().size());
    return Value::text(std::string(characters(object.as_text(), static_cast<size_t>(from),
                                              static_cast<size_t>(std::max(from, to)))));
  }
  const List items = iterate(object, budget);
  List taken;
  const int64_t stride = std::clamp(step, -count - 1, count + 1);
  for (int64_t at = from; stride > 0 ? at < to : at > to; at += stride) {
    taken.push_back(items[static_cast<size_t>(at)]);
  }
  if (!object.is(Kind::kString)) return Value::list(std::move(taken), object.kind());
  std::string text;
  for (const Value& character : taken) text += character.as_text();
  return Value::text(std::move(text));
}

}  // namespace sluice::tokenizer::chat
