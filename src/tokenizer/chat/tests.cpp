#include <algorithm>
#include <array>
#include <utility>

#include "tokenizer/chat/library.h"
#include "tokenizer/chat/text.h"

namespace sluice::tokenizer::chat {
namespace {

// The tests that compare with an argument, and the operator they are.
constexpr std::array<std::pair<std::string_view, std::string_view>, 18> kComparisons = {{
    {"eq", "=="},
    {"equalto", "=="},
    {"==", "=="},
    {"ne", "!="},
    {"!=", "!="},
    {"lt", "<"},
    {"lessthan", "<"},
    {"<", "<"},
    {"le", "<="},
    {"<=", "<="},
    {"gt", ">"},
    {"greaterthan", ">"},
    {">", ">"},
    {"ge", ">="},
    {">=", ">="},
    {"in", "in"},
    {"sameas", "same"},
    {"divisibleby", "divides"},
}};

bool is_iterable(const Value& value) {
  return value.is(Kind::kUndefined) || value.is(Kind::kString) || value.is_sequence() ||
         value.is(Kind::kDict) || value.is(Kind::kLoop);
}

// Letters of one case only, at least one.
bool is_upper(const Value& value) {
  return value.is(Kind::kString) && upper(value.as_text()) == value.as_text() &&
         lower(value.as_text()) != value.as_text();
}
bool is_lower(const Value& value) {
  return value.is(Kind::kString) && lower(value.as_text()) == value.as_text() &&
         upper(value.as_text()) != value.as_text();
}

using Test = std::pair<std::string_view, bool (*)(const Value&)>;
constexpr std::array kTests = {
    Test{"defined", [](const Value& v) { return !v.is(Kind::kUndefined); }},
    Test{"undefined", [](const Value& v) { return v.is(Kind::kUndefined); }},
    Test{"none", [](const Value& v) { return v.is(Kind::kNone); }},
    Test{"string", [](const Value& v) { return v.is(Kind::kString); }},
    Test{"mapping", [](const Value& v) { return v.is(Kind::kDict); }},
    Test{"number", [](const Value& v) { return v.is_number(); }},
    Test{"integer", [](const Value& v) { return v.is(Kind::kInt); }},
    Test{"float", [](const Value& v) { return v.is(Kind::kFloat); }},
    Test{"boolean", [](const Value& v) { return v.is(Kind::kBool); }},
    Test{"true", [](const Value& v) { return v.is(Kind::kBool) && v.truth(); }},
    Test{"false", [](const Value& v) { return v.is(Kind::kBool) && !v.truth(); }},
    Test{"iterable", is_iterable},
    Test{"sequence",
         [](const Value& v) {
           return is_iterable(v) && !v.is(Kind::kGenerator) && !v.is(Kind::kLoop);
         }},
    Test{"callable",
         [](const Value& v) {
           return v.is(Kind::kMacro) || v.is(Kind::kFunction) || v.is(Kind::kMethod);
         }},
    Test{"upper", is_upper},
    Test{"lower", is_lower},
};

bool is_same(const Value& left, const Value& right, Budget* budget) {
  const bool is_singleton = left.is(Kind::kNone) || left.is(Kind::kBool) || right.is(Kind::kNone) ||
                            right.is(Kind::kBool);
  if (!is_singleton) stop_unsupported("sameas of other than none, true and false");
  return left.kind() == right.kind() && equal(left, right, budget);
}

bool has_remainder(const Value& value, const Value& divisor, int64_t remainder, Budget* budget) {
  return equal(apply_binary("%", value, divisor, budget), Value::integer(remainder), budget);
}

}  // namespace

bool is_test(std::string_view name) {
  const auto is_named = [&](const auto& each) { return each.first == name; };
  return !name.empty() &&
         (name == "odd" || name == "even" || std::ranges::any_of(kTests, is_named) ||
          std::ranges::any_of(kComparisons, is_named));
}

bool apply_test(std::string_view name, const Value& input, const Arguments& arguments,
                Budget* budget) {
  ArgumentReader reader(arguments, "the test '" + std::string(name) + "'");
  for (const auto& [test, applies] : kTests) {
    if (test != name) continue;
    reader.done();
    return applies(input);
  }
  if (name == "odd" || name == "even") {
    reader.done();
    return has_remainder(input, Value::integer(2), name == "odd" ? 1 : 0, budget);
  }
  const Value other = reader.required("other");
  reader.done();
  const std::string_view operation =
      std::ranges::find(kComparisons, name, &std::pair<std::string_view, std::string_view>::first)
          ->second;
  if (operation == "same") return is_same(input, other, budget);
  if (operation == "divides") return has_remainder(input, other, 0, budget);
  return compare(operation, input, other, budget);
}

}  // namespace sluice::tokenizer::chat
