#include <algorithm>
#include <optional>

#include "tokenizer/chat/library.h"
#include "tokenizer/chat/text.h"

namespace sluice::tokenizer::chat {
namespace {

Value texts(std::vector<std::string> parts, Budget* budget) {
  budget->take_elements(parts.size());
  List items;
  items.reserve(parts.size());
  for (std::string& part : parts) items.push_back(Value::text(std::move(part)));
  return Value::list(std::move(items));
}

Value call_strip(const std::string& text, std::string_view name, ArgumentReader arguments) {
  const Value characters = arguments.next_or("chars", Value::none());
  arguments.done();
  std::optional<std::string_view> set;
  if (characters.is(Kind::kString)) {
    set = characters.as_text();
  } else if (!characters.is(Kind::kNone)) {
    stop("strip needs a string, not " + characters.description());
  }
  return Value::text(std::string(strip(text, set, name != "rstrip", name != "lstrip")));
}

Value call_split(const std::string& text, std::string_view name, ArgumentReader arguments,
                 Budget* budget) {
  const Value separator = arguments.next_or("sep", Value::none());
  const int64_t max_splits = arguments.integer("maxsplit", -1);
  arguments.done();
  const bool is_text = separator.is(Kind::kString);
  if (!is_text && !separator.is(Kind::kNone)) {
    stop("split needs a string, not " + separator.description());
  }
  if (is_text && separator.as_text().empty()) stop("split has an empty separator");
  // The parts are paid for before there are any.
  budget->take_elements(is_text ? count_of(text, separator.as_text()) : text.size() / 2);
  if (name == "split" || max_splits < 0) {
    std::optional<std::string_view> at;
    if (is_text) at = separator.as_text();
    return texts(split(text, at, max_splits), budget);
  }
  if (!is_text) stop_unsupported("rsplit with a limit and without a separator");
  std::vector<std::string> parts;
  std::string_view rest = text;
  while (static_cast<int64_t>(parts.size()) < max_splits) {
    const size_t at = rest.rfind(separator.as_text());
    if (at == std::string_view::npos) break;
    parts.emplace_back(rest.substr(at + separator.as_text().size()));
    rest = rest.substr(0, at);
  }
  parts.emplace_back(rest);
  std::ranges::reverse(parts);
  return texts(std::move(parts), budget);
}

Value call_affix(const std::string& text, bool at_start, ArgumentReader arguments) {
  const Value wanted = arguments.required("prefix");
  arguments.done();
  const auto matches = [&](const Value& affix) {
    if (!affix.is(Kind::kString))
      stop("startswith and endswith need strings, not " + affix.description());
    return at_start ? text.starts_with(affix.as_text()) : text.ends_with(affix.as_text());
  };
  if (wanted.is(Kind::kTuple)) {
    return Value::boolean(std::ranges::any_of(wanted.as_list(), matches));
  }
  return Value::boolean(matches(wanted));
}

Value call_find(const std::string& text, std::string_view name, ArgumentReader arguments) {
  const Value wanted = arguments.required("sub");
  arguments.done();
  if (!wanted.is(Kind::kString)) stop("a string is found in a string, not " + wanted.description());
  const std::string& part = wanted.as_text();
  if (name == "count") return Value::integer(static_cast<int64_t>(count_of(text, part)));
  const size_t at = name == "rfind" ? text.rfind(part) : text.find(part);
  if (at != std::string::npos) {
    return Value::integer(
        static_cast<int64_t>(count_characters(std::string_view(text).substr(0, at))));
  }
  if (name == "index") stop("index does not find the string");
  return Value::integer(-1);
}

Value call_case(const std::string& text, std::string_view name, const ArgumentReader& arguments) {
  arguments.done();
  if (name == "upper") return Value::text(upper(text));
  if (name == "lower") return Value::text(lower(text));
  if (name == "title") return Value::text(title(text));
  if (name == "capitalize") return Value::text(capitalize(text));
  if (name == "isdigit") return Value::boolean(is_all(text, is_digit));
  if (name == "isalpha") return Value::boolean(is_all(text, is_letter));
  if (name == "isspace") return Value::boolean(is_all(text, is_space));
  stop_unsupported("the method '" + std::string(name) + "' of a string");
}

Value call_replace(const std::string& text, ArgumentReader arguments, Budget* budget) {
  const std::string from = arguments.text("old", "");
  const std::string to = arguments.text("new", "");
  const int64_t max_count = arguments.integer("count", -1);
  arguments.done();
  budget->take_bytes(text.size() + count_of(text, from) * to.size());
  return Value::text(replace(text, from, to, max_count));
}

Value call_remove_affix(const std::string& text, bool at_start, ArgumentReader arguments) {
  const std::string affix = arguments.text("prefix", "");
  arguments.done();
  std::string_view rest = text;
  if (at_start && rest.starts_with(affix)) rest.remove_prefix(affix.size());
  if (!at_start && rest.ends_with(affix)) rest.remove_suffix(affix.size());
  return Value::text(std::string(rest));
}

Value call_of_string(const std::string& text, const std::string& name, const Arguments& given,
                     Budget* budget) {
  ArgumentReader arguments(given, "the method '" + name + "'");
  budget->take_bytes(text.size());
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    return call_strip(text, name, arguments);
  }
  if (name == "split" || name == "rsplit") return call_split(text, name, arguments, budget);
  if (name == "splitlines") {
    arguments.done();
    budget->take_elements(count_of(text, "\n"));
    return texts(split_lines(text), budget);
  }
  if (name == "startswith" || name == "endswith") {
    return call_affix(text, name == "startswith", arguments);
  }
  if (name == "find" || name == "rfind" || name == "index" || name == "count") {
    return call_find(text, name, arguments);
  }
  if (name == "replace") return call_replace(text, arguments, budget);
  if (name == "removeprefix" || name == "removesuffix") {
    return call_remove_affix(text, name == "removeprefix", arguments);
  }
  if (name == "join") {
    std::string joined;
    const List items = iterate(arguments.required("iterable"), budget);
    arguments.done();
    for (size_t i = 0; i < items.size(); ++i) {
      if (!items[i].is(Kind::kString)) stop("join needs strings, not " + items[i].description());
      if (i > 0) joined += text;
      joined += items[i].as_text();
      budget->take_bytes(text.size() + items[i].as_text().size());
    }
    budget->take_bytes(joined.size());
    return Value::text(std::move(joined));
  }
  return call_case(text, name, arguments);
}

Value call_of_dict(const Dict& dict, const std::string& name, const Arguments& given,
                   Budget* budget) {
  ArgumentReader arguments(given, "the method '" + name + "'");
  budget->take_elements(dict.size());
  if (name == "get") {
    const Value key = arguments.required("key");
    const Value absent = arguments.next_or("default", Value::none());
    arguments.done();
    for (const auto& [each, value] : dict) {
      if (equal(each, key, budget)) return value;
    }
    return absent;
  }
  arguments.done();
  if (name == "copy") return Value::dict(dict);
  List items;
  for (const auto& [key, value] : dict) {
    if (name == "keys") items.push_back(key);
    if (name == "values") items.push_back(value);
    if (name == "items") items.push_back(Value::list({key, value}, Kind::kTuple));
  }
  if (name == "keys" || name == "values" || name == "items") return Value::list(std::move(items));
  stop_unsupported("the method '" + name + "' of a dict (it would change it)");
}

Value call_of_list(const Value& self, const std::string& name, const Arguments& given,
                   Budget* budget) {
  ArgumentReader arguments(given, "the method '" + name + "'");
  if (name == "copy") return self;
  if (name != "index" && name != "count") {
    stop_unsupported("the method '" + name + "' of a list (it would change it)");
  }
  const Value wanted = arguments.required("value");
  arguments.done();
  int64_t count = 0;
  const List& items = self.as_list();
  for (size_t i = 0; i < items.size(); ++i) {
    if (!equal(items[i], wanted, budget)) continue;
    if (name == "index") return Value::integer(static_cast<int64_t>(i));
    ++count;
  }
  if (name == "index") stop("index does not find the value");
  return Value::integer(count);
}

}  // namespace

Value call_method(const Method& method, const Arguments& arguments, Budget* budget) {
  const Value& self = method.self;
  if (self.is(Kind::kString)) return call_of_string(self.as_text(), method.name, arguments, budget);
  if (self.is(Kind::kDict)) return call_of_dict(self.as_dict(), method.name, arguments, budget);
  if (self.is_sequence()) return call_of_list(self, method.name, arguments, budget);
  if (method.name == "cycle" && !arguments.positional.empty()) {
    return arguments.positional[self.as_loop().index % arguments.positional.size()];
  }
  stop_unsupported("the method '" + method.name + "' of " + self.description());
}

}  // namespace sluice::tokenizer::chat
