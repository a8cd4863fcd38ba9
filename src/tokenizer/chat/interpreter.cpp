#include "tokenizer/chat/interpreter.h"

#include <algorithm>

#include "tokenizer/chat/interpreter_levels.h"
#include "tokenizer/chat/library.h"

namespace sluice::tokenizer::chat {

std::string Interpreter::run(const Body& body) {
  execute(body);
  return std::move(output_);
}

void Interpreter::write(std::string_view text) {
  if (text.size() > options_.max_output_bytes - output_.size()) {
    throw Failure{ErrorCode::kResourceExhausted,
                  "writes more than " + std::to_string(options_.max_output_bytes) + " bytes"};
  }
  budget_->take_bytes(text.size());
  output_ += text;
}

std::string Interpreter::capture(const Body& body) {
  std::string outer = std::exchange(output_, "");
  const Level level(this);
  execute(body);
  return std::exchange(output_, std::move(outer));
}

Interpreter::Flow Interpreter::execute(const Body& body) {
  for (const Statement& statement : body) {
    const Flow flow = execute(statement);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute(const Statement& statement) {
  const Depth depth(this, statement.line);
  switch (statement.kind) {
    case Statement::Kind::kText:
      write(statement.text);
      break;
    case Statement::Kind::kOutput: {
      const Value value = evaluate(*statement.expression);
      if (value.is(Kind::kString)) {
        write(value.as_text());
      } else {
        write(to_text(value, budget_));
      }
      break;
    }
    case Statement::Kind::kIf:
      return execute_if(statement);
    case Statement::Kind::kFor:
      return execute_for(statement);
    case Statement::Kind::kSet:
    case Statement::Kind::kSetBlock:
      execute_set(statement);
      break;
    case Statement::Kind::kMacro:
      assign_name(statement.text, Value::of(make_macro(statement)));
      break;
    case Statement::Kind::kCall:
      execute_call(statement);
      break;
    case Statement::Kind::kFilter: {
      const Value text = Value::text(capture(statement.body));
      write(to_text(apply_filters(*statement.expression, text), budget_));
      break;
    }
    case Statement::Kind::kWith:
      execute_with(statement);
      break;
    case Statement::Kind::kGeneration:
      write(capture(statement.body));
      break;
    case Statement::Kind::kBreak:
      return Flow::kBreak;
    case Statement::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_if(const Statement& statement) {
  for (const Statement::Branch& branch : statement.branches) {
    if (evaluate(*branch.condition).truth()) return execute(branch.body);
  }
  return execute(statement.otherwise);
}

List Interpreter::loop_items(const Statement& statement) {
  List items = iterate(evaluate(*statement.expression), budget_);
  if (!statement.condition) return items;
  List kept;
  for (Value& item : items) {
    const Level level(this);
    assign(*statement.target, item);
    if (evaluate(*statement.condition).truth()) kept.push_back(std::move(item));
  }
  return kept;
}

Interpreter::Flow Interpreter::execute_for(const Statement& statement) {
  const auto loop = std::make_shared<Loop>();
  loop->items = loop_items(statement);
  if (loop->items.empty()) {
    const Level level(this);
    return execute(statement.otherwise);
  }
  const Value loop_value = Value::of(loop);
  for (loop->index = 0; loop->index < loop->items.size(); ++loop->index) {
    const Level level(this);
    budget_->take_steps(1);
    assign_name("loop", loop_value);
    assign(*statement.target, loop->items[loop->index]);
    if (execute(statement.body) == Flow::kBreak) break;
  }
  return Flow::kNext;
}

void Interpreter::execute_set(const Statement& statement) {
  if (statement.kind == Statement::Kind::kSet) {
    assign(*statement.target, evaluate(*statement.expression));
    return;
  }
  Value value = Value::text(capture(statement.body));
  if (statement.expression) value = apply_filters(*statement.expression, value);
  assign(*statement.target, value);
}

void Interpreter::execute_call(const Statement& statement) {
  const Macro* caller = make_macro(statement);
  write(to_text(evaluate_call(*statement.expression, caller), budget_));
}

void Interpreter::execute_with(const Statement& statement) {
  // The values are those outside the block, one does not see the other.
  List values;
  for (const auto& [target, expression] : statement.assignments) {
    values.push_back(evaluate(*expression));
  }
  const Level level(this);
  for (size_t i = 0; i < values.size(); ++i) assign(*statement.assignments[i].first, values[i]);
  execute(statement.body);
}

void Interpreter::assign_name(std::string_view name, Value value) {
  for (auto& [each, old] : scope_->names) {
    if (each != name) continue;
    old = std::move(value);
    return;
  }
  scope_->names.emplace_back(name, std::move(value));
}

void Interpreter::assign(const Expression& target, const Value& value) {
  if (target.kind == Expression::Kind::kName) {
    assign_name(target.text, value);
    return;
  }
  if (target.kind == Expression::Kind::kAttribute) {
    const Value owner = evaluate(*target.children[0]);
    if (!owner.is(Kind::kNamespace)) {
      stop("an attribute can be set on a namespace only, not on " + owner.description());
    }
    for (auto& [field, old] : owner.as_namespace()->fields) {
      if (field != target.text) continue;
      old = value;
      return;
    }
    owner.as_namespace()->fields.emplace_back(target.text, value);
    return;
  }
  const List items = iterate(value, budget_);
  if (items.size() != target.children.size()) {
    stop("cannot unpack " + std::to_string(items.size()) + " values into " +
         std::to_string(target.children.size()) + " names");
  }
  for (size_t i = 0; i < items.size(); ++i) assign(*target.children[i], items[i]);
}

const Macro* Interpreter::make_macro(const Statement& statement) {
  budget_->take_elements(1);
  for (Scope* scope = scope_; scope != nullptr; scope = scope->parent) scope->is_captured = true;
  macros_.push_back({&statement, scope_});
  return &macros_.back();
}

Value Interpreter::call_macro(const Macro& macro, const Arguments& arguments, const Macro* caller) {
  const Statement& statement = *macro.statement;
  const std::string what = "the macro '" + statement.text.substr(0, 64) + "'";
  ArgumentReader reader(arguments, what);
  List given;
  std::vector<bool> is_given;
  for (const Statement::Parameter& parameter : statement.parameters) {
    const Value* value = reader.next(parameter.name);
    is_given.push_back(value != nullptr);
    given.push_back(value != nullptr ? *value
                                     : Value::undefined("the parameter '" + parameter.name +
                                                        "', which is undefined"));
  }
  reader.done();
  Scope* outer_scope = std::exchange(scope_, macro.scope);
  std::string outer_output = std::exchange(output_, "");
  std::string made;
  {
    const Level level(this);
    if (caller != nullptr) assign_name("caller", Value::of(caller));
    for (size_t i = 0; i < given.size(); ++i) {
      const Statement::Parameter& parameter = statement.parameters[i];
      const bool takes_default = !is_given[i] && parameter.default_value;
      assign_name(parameter.name, takes_default ? evaluate(*parameter.default_value) : given[i]);
    }
    execute(statement.body);
    made = std::exchange(output_, std::move(outer_output));
  }
  scope_ = outer_scope;
  return Value::text(std::move(made));
}

}  // namespace sluice::tokenizer::chat
