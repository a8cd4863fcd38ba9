#include <algorithm>
#include <ctime>

#include "tokenizer/chat/interpreter_levels.h"
#include "tokenizer/chat/library.h"

namespace sluice::tokenizer::chat {
namespace {

constexpr std::pair<std::string_view, Function> kFunctions[] = {
    {"range", Function::kRange},
    {"namespace", Function::kNamespace},
    {"dict", Function::kDict},
    {"raise_exception", Function::kRaiseException},
    {"strftime_now", Function::kStrftimeNow},
};

}  // namespace

Value Interpreter::evaluate(const Expression& node) {
  const Depth depth(this, node.line);
  switch (node.kind) {
    case Expression::Kind::kConstant:
      return node.constant;
    case Expression::Kind::kName:
      return evaluate_name(node);
    case Expression::Kind::kList:
    case Expression::Kind::kTuple:
      return evaluate_list(node);
    case Expression::Kind::kDict:
      return evaluate_dict(node);
    case Expression::Kind::kAttribute:
      return get_attribute(evaluate(*node.children[0]), node.text, budget_);
    case Expression::Kind::kItem: {
      const Value object = evaluate(*node.children[0]);
      return get_item(object, evaluate(*node.children[1]), budget_);
    }
    case Expression::Kind::kSlice:
      return evaluate_slice(node);
    case Expression::Kind::kCall:
      return evaluate_call(node, nullptr);
    case Expression::Kind::kFilter: {
      const Value input = evaluate(*node.children[0]);
      return apply_filter(node.text, input, evaluate_arguments(node), budget_);
    }
    case Expression::Kind::kTest: {
      const Value input = evaluate(*node.children[0]);
      return Value::boolean(apply_test(node.text, input, evaluate_arguments(node), budget_));
    }
    default:
      return evaluate_operator(node);
  }
}

Value Interpreter::evaluate_operator(const Expression& node) {
  const auto child = [&](size_t i) { return evaluate(*node.children[i]); };
  switch (node.kind) {
    case Expression::Kind::kNot:
      return Value::boolean(!child(0).truth());
    case Expression::Kind::kUnary:
      return apply_unary(node.text, child(0));
    case Expression::Kind::kBinary: {
      const Value left = child(0);
      return apply_binary(node.text, left, child(1), budget_);
    }
    case Expression::Kind::kConcat:
      return evaluate_concat(node);
    case Expression::Kind::kCompare:
      return evaluate_compare(node);
    case Expression::Kind::kAnd: {
      Value left = child(0);
      return left.truth() ? child(1) : left;
    }
    case Expression::Kind::kOr: {
      Value left = child(0);
      return left.truth() ? left : child(1);
    }
    default:  // kConditional
      if (child(0).truth()) return child(1);
      if (node.children[2]) return child(2);
      return Value::undefined("an 'if' without 'else', which is undefined");
  }
}

Value Interpreter::evaluate_name(const Expression& node) {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    for (const auto& [name, value] : scope->names) {
      if (name == node.text) return value;
    }
  }
  for (const auto& [name, function] : kFunctions) {
    if (name == node.text) return Value::of(function);
  }
  for (const std::string_view name : {"cycler", "joiner", "lipsum", "varargs", "kwargs", "self"}) {
    if (name == node.text) stop_unsupported("'" + node.text + "'");
  }
  return Value::undefined("'" + node.text.substr(0, 64) + "', which is undefined");
}

Value Interpreter::evaluate_list(const Expression& node) {
  List items;
  budget_->take_elements(node.children.size());
  for (const ExpressionPtr& child : node.children) items.push_back(evaluate(*child));
  const bool is_tuple = node.kind == Expression::Kind::kTuple;
  return Value::list(std::move(items), is_tuple ? Kind::kTuple : Kind::kList);
}

Value Interpreter::evaluate_dict(const Expression& node) {
  Dict entries;
  budget_->take_elements(node.children.size());
  for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
    Value key = evaluate(*node.children[i]);
    Value value = evaluate(*node.children[i + 1]);
    if (key.is(Kind::kList) || key.is(Kind::kDict)) {
      stop("a dict's key cannot be " + key.description());
    }
    const auto old = std::ranges::find_if(
        entries, [&](const auto& entry) { return equal(entry.first, key, budget_); });
    if (old != entries.end()) {
      old->second = std::move(value);
    } else {
      entries.emplace_back(std::move(key), std::move(value));
    }
  }
  return Value::dict(std::move(entries));
}

Value Interpreter::evaluate_slice(const Expression& node) {
  const Value object = evaluate(*node.children[0]);
  const auto bound = [&](size_t i) {
    return node.children[i] ? evaluate(*node.children[i]) : Value::none();
  };
  const Value from = bound(1);
  const Value to = bound(2);
  const Value bounds[3] = {from, to, bound(3)};
  return get_slice(object, bounds, budget_);
}

Value Interpreter::evaluate_concat(const Expression& node) {
  std::string text;
  for (const ExpressionPtr& child : node.children) {
    const std::string part = to_text(evaluate(*child), budget_);
    budget_->take_bytes(text.size() + part.size());
    text += part;
  }
  return Value::text(std::move(text));
}

Value Interpreter::evaluate_compare(const Expression& node) {
  Value left = evaluate(*node.children[0]);
  for (size_t i = 0; i < node.operators.size(); ++i) {
    Value right = evaluate(*node.children[i + 1]);
    if (!compare(node.operators[i], left, right, budget_)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Arguments Interpreter::evaluate_arguments(const Expression& node) {
  Arguments arguments;
  for (size_t i = 1; i < node.children.size(); ++i) {
    arguments.positional.push_back(evaluate(*node.children[i]));
  }
  for (const auto& [name, value] : node.named) {
    arguments.named.emplace_back(name, evaluate(*value));
  }
  return arguments;
}

Value Interpreter::apply_filters(const Expression& node, const Value& input) {
  const Depth depth(this, node.line);
  const Value inner = node.children[0] ? apply_filters(*node.children[0], input) : input;
  return apply_filter(node.text, inner, evaluate_arguments(node), budget_);
}

Value Interpreter::evaluate_call(const Expression& node, const Macro* caller) {
  const Value callee = evaluate(*node.children[0]);
  const Arguments arguments = evaluate_arguments(node);
  line_ = node.line;
  if (callee.is(Kind::kMacro)) return call_macro(*callee.as_macro(), arguments, caller);
  if (caller != nullptr) stop("{% call %} needs a macro, not " + callee.description());
  if (callee.is(Kind::kFunction)) return call_function(callee.as_function(), arguments);
  if (callee.is(Kind::kMethod)) return call_method(callee.as_method(), arguments, budget_);
  stop("calls " + callee.description());
}

Value Interpreter::call_function(Function function, const Arguments& arguments) {
  switch (function) {
    case Function::kRange:
      return make_range(arguments);
    case Function::kNamespace:
      return make_namespace(arguments);
    case Function::kDict:
      return make_dict(arguments);
    case Function::kStrftimeNow:
      return format_time(arguments);
    case Function::kRaiseException:
      break;
  }
  ArgumentReader reader(arguments, "raise_exception");
  const Value reason = reader.required("message");
  reader.done();
  stop("raises: " + to_text(reason, budget_));
}

Value Interpreter::make_dict(const Arguments& arguments) {
  Dict entries;
  if (arguments.positional.size() > 1) stop("dict() takes one dict");
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (!source.is(Kind::kDict)) stop_unsupported("dict() of " + source.description());
    budget_->take_elements(source.as_dict().size());
    entries = source.as_dict();
  }
  for (const auto& [name, value] : arguments.named) {
    const auto old = std::ranges::find_if(entries, [&](const auto& entry) {
      return entry.first.is(Kind::kString) && entry.first.as_text() == name;
    });
    if (old != entries.end()) {
      old->second = value;
    } else {
      entries.emplace_back(Value::text(name), value);
    }
  }
  return Value::dict(std::move(entries));
}

Value Interpreter::make_namespace(const Arguments& arguments) {
  const Value fields = make_dict(arguments);
  budget_->take_elements(1);
  Namespace& made = namespaces_.emplace_back();
  for (const auto& [key, value] : fields.as_dict()) {
    if (key.is(Kind::kString)) made.fields.emplace_back(key.as_text(), value);
  }
  return Value::of(&made);
}

Value Interpreter::make_range(const Arguments& arguments) {
  ArgumentReader reader(arguments, "range");
  const size_t given = arguments.positional.size();
  const int64_t first = reader.integer("start", 0);
  const int64_t second = reader.integer("stop", 0);
  const int64_t step = reader.integer("step", 1);
  reader.done();
  if (given == 0) stop("range needs an end");
  if (step == 0) stop("range has a step of zero");
  const int64_t from = given == 1 ? 0 : first;
  const int64_t to = given == 1 ? first : second;
  constexpr int64_t kMaxRange = 100'000;  // as Jinja's sandbox has it
  constexpr int64_t kMaxBound = int64_t{1} << 53;
  if (std::min(from, to) < -kMaxBound || std::max(from, to) > kMaxBound) {
    stop("range has a border out of range");
  }
  List items;
  const int64_t stride = std::clamp(step, -2 * kMaxBound, 2 * kMaxBound);
  for (int64_t value = from; stride > 0 ? value < to : value > to; value += stride) {
    if (items.size() == kMaxRange) {
      stop("range has more than " + std::to_string(kMaxRange) + " numbers");
    }
    budget_->take_elements(1);
    items.push_back(Value::integer(value));
  }
  return Value::list(std::move(items));
}

Value Interpreter::format_time(const Arguments& arguments) {
  ArgumentReader reader(arguments, "strftime_now");
  const std::string format = reader.text("format", "");
  reader.done();
  if (format.size() > 256) stop("strftime_now has a format of more than 256 bytes");
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') continue;
    ++i;
    if (i < format.size() && format[i] == '-') ++i;
    constexpr std::string_view kKnown = "aAbBdDeFHIjmMpSTyY%";
    if (i == format.size() || kKnown.find(format[i]) == std::string_view::npos) {
      stop_unsupported("strftime_now with this format");
    }
  }
  const auto day = std::chrono::floor<std::chrono::days>(options_.now);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(options_.now - day);
  std::tm fields{};
  fields.tm_year = static_cast<int>(date.year()) - 1900;
  fields.tm_mon = static_cast<int>(static_cast<unsigned>(date.month())) - 1;
  fields.tm_mday = static_cast<int>(static_cast<unsigned>(date.day()));
  fields.tm_hour = static_cast<int>(time.hours().count());
  fields.tm_min = static_cast<int>(time.minutes().count());
  fields.tm_sec = static_cast<int>(time.seconds().count());
  fields.tm_wday = static_cast<int>(std::chrono::weekday(day).c_encoding());
  const auto new_year = std::chrono::local_days(date.year() / std::chrono::January / 1);
  fields.tm_yday = static_cast<int>((day - new_year).count());
  char buffer[4096];
  const size_t written = std::strftime(buffer, sizeof(buffer), format.c_str(), &fields);
  return Value::text(std::string(buffer, written));
}

}  // namespace sluice::tokenizer::chat
