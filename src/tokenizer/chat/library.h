#pragma once

#include <string>
#include <string_view>

#include "tokenizer/chat/value.h"

// Jinja's filters, tests, methods and operators, on values.
namespace sluice::tokenizer::chat {

bool is_filter(std::string_view name);
bool is_test(std::string_view name);

// `input | name(arguments)`. Requires: is_filter(name). Throws Failure.
Value apply_filter(std::string_view name, const Value& input, const Arguments& arguments,
                   Budget* budget);
// `input is name(arguments)`. Requires: is_test(name). Throws Failure.
bool apply_test(std::string_view name, const Value& input, const Arguments& arguments,
                Budget* budget);

// object.name and object[key] as Jinja looks them up; undefined if there is nothing.
Value get_attribute(const Value& object, std::string_view name, Budget* budget);
Value get_item(const Value& object, const Value& key, Budget* budget);
Value get_slice(const Value& object, const Value (&bounds)[3], Budget* budget);
// Calls what get_attribute gave for a method's name.
Value call_method(const Method& method, const Arguments& arguments, Budget* budget);

Value apply_binary(std::string_view name, const Value& left, const Value& right, Budget* budget);
Value apply_unary(std::string_view name, const Value& operand);
// name: == != < <= > >= in "not in"
bool compare(std::string_view name, const Value& left, const Value& right, Budget* budget);

// json.dumps(value, ensure_ascii, indent, separators, sort_keys) of Python.
struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool has_indent = false;
  std::string indent;  // of one level
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
std::string dump_json(const Value& value, const JsonStyle& style, Budget* budget);

// Reads the arguments of one call by position or name.
class ArgumentReader final {
 public:
  // `what`: for messages, for example "the filter 'join'".
  ArgumentReader(const Arguments& arguments, std::string what)
      : arguments_(&arguments), what_(std::move(what)) {}

  // The next argument; nullptr if it was not given.
  const Value* next(std::string_view name);
  Value next_or(std::string_view name, Value default_value);
  Value required(std::string_view name);
  bool flag(std::string_view name, bool default_value);
  int64_t integer(std::string_view name, int64_t default_value);
  std::string text(std::string_view name, std::string_view default_value);
  // Stops if anything was given that was not asked for.
  void done() const;

 private:
  const Arguments* arguments_;
  std::string what_;
  size_t position_ = 0;
  size_t named_used_ = 0;
};

}  // namespace sluice::tokenizer::chat
