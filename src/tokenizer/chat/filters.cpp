#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>
#include <utility>

#include "tokenizer/chat/library.h"
#include "tokenizer/chat/text.h"

namespace sluice::tokenizer::chat {
namespace {

// One use of a filter.
struct Call {
  std::string_view name;
  const Value& input;
  const Arguments& given;
  ArgumentReader& arguments;
  Budget* budget;

  // The input as text, as Jinja's text filters take it.
  std::string text() const {
    std::string made = to_text(input, budget);
    budget->take_bytes(made.size());
    return made;
  }
  List items() const { return iterate(input, budget); }
};

// Walks "a.b.0" from an item; Jinja's make_attrgetter. An integer is an index.
Value attribute_of(const Value& item, const Value& path, Budget* budget) {
  if (!path.is(Kind::kString)) return get_item(item, path, budget);
  Value value = item;
  for (const std::string& part : split(path.as_text(), ".", -1)) {
    budget->take_steps(1);
    int64_t index = 0;
    const auto read = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool is_index = read.ec == std::errc() && read.ptr == part.data() + part.size();
    value = get_item(value, is_index ? Value::integer(index) : Value::text(part), budget);
  }
  return value;
}

// The values that sort, unique, min, max compare: an attribute, strings without case.
Value sort_key(const Value& item, const Value& attribute, bool keeps_case, Budget* budget) {
  Value key = attribute.is(Kind::kNone) ? item : attribute_of(item, attribute, budget);
  if (keeps_case || !key.is(Kind::kString)) return key;
  budget->take_bytes(key.as_text().size());
  return Value::text(lower(key.as_text()));
}

List sort_keys(const List& items, const Value& attribute, bool keeps_case, Budget* budget) {
  List keys;
  keys.reserve(items.size());
  for (const Value& item : items) keys.push_back(sort_key(item, attribute, keeps_case, budget));
  return keys;
}

std::vector<size_t> sorted_order(const List& keys, bool is_reversed, Budget* budget) {
  std::vector<size_t> order(keys.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, [&](size_t left, size_t right) {
    return is_reversed ? less(keys[right], keys[left], budget)
                       : less(keys[left], keys[right], budget);
  });
  return order;
}

Value filter_default(Call& call) {
  const Value absent = call.arguments.next_or("default_value", Value::text(""));
  const bool also_false = call.arguments.flag("boolean", false);
  const bool is_absent = call.input.is(Kind::kUndefined) || (also_false && !call.input.truth());
  return is_absent ? absent : call.input;
}

Value filter_text_case(Call& call) {
  const std::string text = call.text();
  if (call.name == "upper") return Value::text(upper(text));
  if (call.name == "lower") return Value::text(lower(text));
  if (call.name == "title") return Value::text(title_filter(text));
  if (call.name == "capitalize") return Value::text(capitalize(text));
  if (call.name == "e" || call.name == "escape") {
    std::string escaped = escape_html(text);
    call.budget->take_bytes(escaped.size());
    return Value::text(std::move(escaped));
  }
  return Value::text(text);  // string
}

Value filter_safe(Call& call) {
  return Value::text(call.text());
}

Value filter_trim(Call& call) {
  const Value characters = call.arguments.next_or("chars", Value::none());
  const std::string text = call.text();
  if (characters.is(Kind::kNone)) return Value::text(std::string(strip(text, {}, true, true)));
  if (!characters.is(Kind::kString)) stop("trim needs a string, not " + characters.description());
  return Value::text(std::string(strip(text, characters.as_text(), true, true)));
}

Value filter_length(Call& call) {
  return Value::integer(static_cast<int64_t>(length(call.input)));
}

Value filter_replace(Call& call) {
  const std::string text = call.text();
  const std::string from = to_text(call.arguments.required("old"), call.budget);
  const std::string to = to_text(call.arguments.required("new"), call.budget);
  const Value count = call.arguments.next_or("count", Value::none());
  call.budget->take_bytes(text.size() + count_of(text, from) * to.size());
  return Value::text(replace(text, from, to, count.is_integral() ? count.as_integer() : -1));
}

Value filter_indent(Call& call) {
  const Value width = call.arguments.next_or("width", Value::integer(4));
  const bool with_first = call.arguments.flag("first", false);
  const bool with_blank = call.arguments.flag("blank", false);
  std::string indent;
  if (width.is(Kind::kString)) {
    indent = width.as_text();
  } else if (width.is_integral() && width.as_integer() <= 1000) {
    indent.assign(static_cast<size_t>(std::max<int64_t>(width.as_integer(), 0)), ' ');
  } else {
    stop("indent needs a width up to 1000 or a string, not " + width.description());
  }
  const std::string text = call.text();
  call.budget->take_elements(count_of(text, "\n"));
  call.budget->take_bytes(text.size() + (count_of(text, "\n") + 1) * indent.size());
  std::string made = with_first ? indent : "";
  const std::vector<std::string> lines = split_lines(text + "\n");
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) made += '\n';
    if (i > 0 && (with_blank || !lines[i].empty())) made += indent;
    made += lines[i];
  }
  return Value::text(std::move(made));
}

Value filter_join(Call& call) {
  const std::string separator = to_text(call.arguments.next_or("d", Value::text("")), call.budget);
  const Value attribute = call.arguments.next_or("attribute", Value::none());
  std::string joined;
  bool is_first = true;
  for (const Value& item : call.items()) {
    if (!std::exchange(is_first, false)) joined += separator;
    joined += to_text(attribute.is(Kind::kNone) ? item : attribute_of(item, attribute, call.budget),
                      call.budget);
    call.budget->take_steps(1 + separator.size() / 16);
  }
  call.budget->take_bytes(joined.size());
  return Value::text(std::move(joined));
}

Value filter_first_last(Call& call) {
  const List items = call.items();
  if (items.empty()) {
    return Value::undefined("the " + std::string(call.name) +
                            " item of an empty list, which is undefined");
  }
  return call.name == "first" ? items.front() : items.back();
}

Value filter_list(Call& call) {
  return Value::list(call.items());
}

Value filter_reverse(Call& call) {
  List items = call.items();
  std::ranges::reverse(items);
  if (!call.input.is(Kind::kString)) return Value::list(std::move(items), Kind::kGenerator);
  std::string text;
  for (const Value& character : items) text += character.as_text();
  return Value::text(std::move(text));
}

Value filter_items(Call& call) {
  if (call.input.is(Kind::kUndefined)) return Value::list({}, Kind::kGenerator);
  if (!call.input.is(Kind::kDict)) stop("items needs a dict, not " + call.input.description());
  List items;
  call.budget->take_elements(call.input.as_dict().size());
  for (const auto& [key, value] : call.input.as_dict()) {
    items.push_back(Value::list({key, value}, Kind::kTuple));
  }
  return Value::list(std::move(items), Kind::kGenerator);
}

Value filter_dictsort(Call& call) {
  const bool keeps_case = call.arguments.flag("case_sensitive", false);
  const std::string by = call.arguments.text("by", "key");
  const bool is_reversed = call.arguments.flag("reverse", false);
  if (!call.input.is(Kind::kDict)) stop("dictsort needs a dict, not " + call.input.description());
  if (by != "key" && by != "value") stop("dictsort is by 'key' or 'value'");
  List pairs;
  for (const auto& [key, value] : call.input.as_dict()) {
    pairs.push_back(Value::list({key, value}, Kind::kTuple));
  }
  const List keys = sort_keys(pairs, Value::integer(by == "key" ? 0 : 1), keeps_case, call.budget);
  List sorted;
  for (const size_t i : sorted_order(keys, is_reversed, call.budget)) sorted.push_back(pairs[i]);
  return Value::list(std::move(sorted));
}

Value filter_sort(Call& call) {
  const bool is_reversed = call.arguments.flag("reverse", false);
  const bool keeps_case = call.arguments.flag("case_sensitive", false);
  const Value attribute = call.arguments.next_or("attribute", Value::none());
  const List items = call.items();
  const List keys = sort_keys(items, attribute, keeps_case, call.budget);
  List sorted;
  for (const size_t i : sorted_order(keys, is_reversed, call.budget)) sorted.push_back(items[i]);
  return Value::list(std::move(sorted));
}

Value filter_unique(Call& call) {
  const bool keeps_case = call.arguments.flag("case_sensitive", false);
  const Value attribute = call.arguments.next_or("attribute", Value::none());
  List seen;
  List kept;
  for (const Value& item : call.items()) {
    Value key = sort_key(item, attribute, keeps_case, call.budget);
    const bool is_known = std::ranges::any_of(
        seen, [&](const Value& other) { return equal(key, other, call.budget); });
    if (is_known) continue;
    seen.push_back(std::move(key));
    kept.push_back(item);
  }
  return Value::list(std::move(kept), Kind::kGenerator);
}

Value filter_min_max(Call& call) {
  const bool keeps_case = call.arguments.flag("case_sensitive", false);
  const Value attribute = call.arguments.next_or("attribute", Value::none());
  const List items = call.items();
  if (items.empty()) return Value::undefined("an item of an empty list, which is undefined");
  const List keys = sort_keys(items, attribute, keeps_case, call.budget);
  size_t best = 0;
  for (size_t i = 1; i < keys.size(); ++i) {
    const bool is_better = call.name == "min" ? less(keys[i], keys[best], call.budget)
                                              : less(keys[best], keys[i], call.budget);
    if (is_better) best = i;
  }
  return items[best];
}

Value filter_sum(Call& call) {
  const Value attribute = call.arguments.next_or("attribute", Value::none());
  Value sum = call.arguments.next_or("start", Value::integer(0));
  for (const Value& item : call.items()) {
    const Value value =
        attribute.is(Kind::kNone) ? item : attribute_of(item, attribute, call.budget);
    sum = apply_binary("+", sum, value, call.budget);
  }
  return sum;
}

std::optional<double> read_number(const Value& value) {
  if (value.is_number()) return value.as_number();
  if (!value.is(Kind::kString)) return std::nullopt;
  std::string_view text = strip(value.as_text(), {}, true, true);
  if (text.starts_with('+')) text.remove_prefix(1);
  double number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool is_whole =
      !text.empty() && read.ec == std::errc() && read.ptr == text.data() + text.size();
  return is_whole ? std::optional(number) : std::nullopt;
}

Value filter_int(Call& call) {
  const Value absent = call.arguments.next_or("default", Value::integer(0));
  if (call.arguments.integer("base", 10) != 10) stop_unsupported("int with a base other than 10");
  if (call.input.is(Kind::kUndefined)) stop("int of " + call.input.description());
  if (call.input.is_integral()) return Value::integer(call.input.as_integer());
  if (call.input.is(Kind::kString)) {
    std::string_view text = strip(call.input.as_text(), {}, true, true);
    if (text.starts_with('+')) text.remove_prefix(1);
    int64_t value = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool is_whole = !text.empty() && read.ptr == text.data() + text.size();
    if (is_whole && read.ec == std::errc()) return Value::integer(value);
  }
  const std::optional<double> number = read_number(call.input);
  if (!number || std::isnan(*number)) return absent;
  if (std::fabs(*number) >= 9.2e18) stop("an integer is out of range");
  return Value::integer(static_cast<int64_t>(*number));
}

Value filter_float(Call& call) {
  const Value absent = call.arguments.next_or("default", Value::number(0));
  if (call.input.is(Kind::kUndefined)) stop("float of " + call.input.description());
  const std::optional<double> number = read_number(call.input);
  return number ? Value::number(*number) : absent;
}

Value filter_abs(Call& call) {
  if (!call.input.is_number()) stop("abs needs a number, not " + call.input.description());
  if (call.input.is(Kind::kFloat)) return Value::number(std::fabs(call.input.as_number()));
  const bool is_negative = call.input.as_integer() < 0;
  return apply_unary(is_negative ? "-" : "+", call.input);
}

Value filter_round(Call& call) {
  const int64_t digits = call.arguments.integer("precision", 0);
  const std::string method = call.arguments.text("method", "common");
  if (!call.input.is_number()) stop("round needs a number, not " + call.input.description());
  if (digits < 0 || digits > 15) stop_unsupported("round to fewer than 0 or more than 15 digits");
  const double value = call.input.as_number();
  const double scale = std::pow(10.0, static_cast<double>(digits));
  if (method == "ceil") return Value::number(std::ceil(value * scale) / scale);
  if (method == "floor") return Value::number(std::floor(value * scale) / scale);
  if (method != "common") stop("round is by 'common', 'ceil' or 'floor'");
  if (call.input.is_integral()) return Value::integer(call.input.as_integer());
  // Python rounds the exact decimal value, half to even: what printf does.
  char buffer[400];
  std::snprintf(buffer, sizeof(buffer), "%.*f", static_cast<int>(digits), value);
  double rounded = 0;
  std::from_chars(buffer, buffer + std::char_traits<char>::length(buffer), rounded);
  return Value::number(rounded);
}

Arguments rest_of(const Arguments& given, size_t from) {
  Arguments rest;
  for (size_t i = from; i < given.positional.size(); ++i) {
    rest.positional.push_back(given.positional[i]);
  }
  rest.named = given.named;
  return rest;
}

std::string given_name(const Call& call, size_t position, std::string_view kind) {
  if (!call.given.positional[position].is(Kind::kString)) {
    stop(std::string(call.name) + " needs the name of a " + std::string(kind));
  }
  return call.given.positional[position].as_text();
}

Value filter_map(Call& call) {
  List mapped;
  if (call.given.positional.empty()) {
    const Value attribute = call.arguments.next_or("attribute", Value::none());
    const Value* absent = call.arguments.next("default");
    if (attribute.is(Kind::kNone)) stop("map needs a filter or an attribute");
    call.arguments.done();
    for (const Value& item : call.items()) {
      Value value = attribute_of(item, attribute, call.budget);
      mapped.push_back(absent != nullptr && value.is(Kind::kUndefined) ? *absent : value);
    }
    return Value::list(std::move(mapped), Kind::kGenerator);
  }
  const std::string name = given_name(call, 0, "filter");
  if (!is_filter(name)) stop_unsupported("the filter '" + name.substr(0, 64) + "'");
  const Arguments rest = rest_of(call.given, 1);
  for (const Value& item : call.items()) {
    call.budget->take_steps(1);
    mapped.push_back(apply_filter(name, item, rest, call.budget));
  }
  return Value::list(std::move(mapped), Kind::kGenerator);
}

// select, reject, selectattr, rejectattr.
Value filter_select(Call& call) {
  const bool by_attribute = call.name.ends_with("attr");
  const bool keeps = call.name.starts_with("select");
  const size_t test_at = by_attribute ? 1 : 0;
  if (call.given.positional.size() < test_at) {
    stop(std::string(call.name) + " needs an attribute");
  }
  const bool has_test = call.given.positional.size() > test_at;
  const std::string test = has_test ? given_name(call, test_at, "test") : "";
  if (has_test && !is_test(test)) stop_unsupported("the test '" + test.substr(0, 64) + "'");
  const Arguments rest = rest_of(call.given, test_at + 1);
  List kept;
  for (const Value& item : call.items()) {
    call.budget->take_steps(1);
    const Value value =
        by_attribute ? attribute_of(item, call.given.positional[0], call.budget) : item;
    const bool passes = has_test ? apply_test(test, value, rest, call.budget) : value.truth();
    if (passes == keeps) kept.push_back(item);
  }
  return Value::list(std::move(kept), Kind::kGenerator);
}

Value filter_attr(Call& call) {
  const std::string name = call.arguments.text("name", "");
  return call.input.is(Kind::kDict)
             ? Value::undefined("'" + name.substr(0, 64) + "', which is undefined")
             : get_attribute(call.input, name, call.budget);
}

Value filter_tojson(Call& call) {
  JsonStyle style;
  style.ensure_ascii = call.arguments.flag("ensure_ascii", false);
  const Value indent = call.arguments.next_or("indent", Value::none());
  const Value separators = call.arguments.next_or("separators", Value::none());
  style.sort_keys = call.arguments.flag("sort_keys", false);
  if (indent.is(Kind::kString)) {
    style.indent = indent.as_text();
  } else if (indent.is_integral() && indent.as_integer() <= 64) {
    style.indent.assign(static_cast<size_t>(std::max<int64_t>(indent.as_integer(), 0)), ' ');
  } else if (!indent.is(Kind::kNone)) {
    stop("tojson needs an indent up to 64 or a string, not " + indent.description());
  }
  style.has_indent = !indent.is(Kind::kNone);
  if (style.has_indent) style.item_separator = ",";
  if (!separators.is(Kind::kNone)) {
    const bool is_pair = separators.is_sequence() && separators.as_list().size() == 2 &&
                         separators.as_list()[0].is(Kind::kString) &&
                         separators.as_list()[1].is(Kind::kString);
    if (!is_pair) stop("tojson needs two strings as separators");
    style.item_separator = separators.as_list()[0].as_text();
    style.key_separator = separators.as_list()[1].as_text();
    if (style.item_separator.size() + style.key_separator.size() > 64) {
      stop("tojson has separators of more than 64 bytes");
    }
  }
  return Value::text(dump_json(call.input, style, call.budget));
}

struct Filter {
  std::string_view name;
  Value (*apply)(Call&);
  bool reads_all = true;  // its arguments one by one, so that left-over ones are errors
};

constexpr std::array kFilters = {
    Filter{"abs", filter_abs},
    Filter{"attr", filter_attr},
    Filter{"capitalize", filter_text_case},
    Filter{"count", filter_length},
    Filter{"d", filter_default},
    Filter{"default", filter_default},
    Filter{"dictsort", filter_dictsort},
    Filter{"e", filter_text_case},
    Filter{"escape", filter_text_case},
    Filter{"first", filter_first_last},
    Filter{"float", filter_float},
    Filter{"indent", filter_indent},
    Filter{"int", filter_int},
    Filter{"items", filter_items},
    Filter{"join", filter_join},
    Filter{"last", filter_first_last},
    Filter{"length", filter_length},
    Filter{"list", filter_list},
    Filter{"lower", filter_text_case},
    Filter{"map", filter_map, false},
    Filter{"max", filter_min_max},
    Filter{"min", filter_min_max},
    Filter{"reject", filter_select, false},
    Filter{"rejectattr", filter_select, false},
    Filter{"replace", filter_replace},
    Filter{"reverse", filter_reverse},
    Filter{"round", filter_round},
    Filter{"safe", filter_safe},
    Filter{"select", filter_select, false},
    Filter{"selectattr", filter_select, false},
    Filter{"sort", filter_sort},
    Filter{"string", filter_text_case},
    Filter{"sum", filter_sum},
    Filter{"title", filter_text_case},
    Filter{"tojson", filter_tojson},
    Filter{"trim", filter_trim},
    Filter{"unique", filter_unique},
    Filter{"upper", filter_text_case},
};

const Filter* find_filter(std::string_view name) {
  const auto found = std::ranges::find(kFilters, name, &Filter::name);
  return found == kFilters.end() ? nullptr : &*found;
}

}  // namespace

bool is_filter(std::string_view name) {
  return find_filter(name) != nullptr;
}

Value apply_filter(std::string_view name, const Value& input, const Arguments& arguments,
                   Budget* budget) {
  const Filter& filter = *find_filter(name);
  ArgumentReader reader(arguments, "the filter '" + std::string(name) + "'");
  Call call{filter.name, input, arguments, reader, budget};
  Value result = filter.apply(call);
  if (filter.reads_all) reader.done();
  return result;
}

}  // namespace sluice::tokenizer::chat
