#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/chat/ast.h"
#include "tokenizer/chat/value.h"

namespace sluice::tokenizer::chat {

// The names of one level: the template, a loop's pass, a macro's call, a block.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<std::string_view, Value>> names;
  bool is_captured = false;  // a macro was defined inside and may outlive the level
};

struct Macro {
  const Statement* statement = nullptr;
  Scope* scope = nullptr;  // where it was defined
};

// Runs one parsed template once. Every function may throw Failure.
class Interpreter final {
 public:
  struct Options {
    Budget* budget = nullptr;
    size_t max_output_bytes = 0;
    std::chrono::local_seconds now;
  };
  // Deepest nesting of what is being evaluated, macros in macros included.
  static constexpr int kMaxDepth = 400;

  explicit Interpreter(const Options& options) : options_(options), budget_(options.budget) {}

  // `name` must outlive the run.
  void define(std::string_view name, Value value) { assign_name(name, std::move(value)); }
  std::string run(const Body& body);
  int line() const { return line_; }

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  class Level;  // a scope on the stack
  class Depth;

  Flow execute(const Body& body);
  Flow execute(const Statement& statement);
  Flow execute_if(const Statement& statement);
  Flow execute_for(const Statement& statement);
  List loop_items(const Statement& statement);
  void execute_set(const Statement& statement);
  void execute_call(const Statement& statement);
  void execute_with(const Statement& statement);
  std::string capture(const Body& body);
  void write(std::string_view text);
  void assign(const Expression& target, const Value& value);
  void assign_name(std::string_view name, Value value);
  const Macro* make_macro(const Statement& statement);

  Value evaluate(const Expression& node);
  Value evaluate_operator(const Expression& node);
  Value evaluate_name(const Expression& node);
  Value evaluate_list(const Expression& node);
  Value evaluate_dict(const Expression& node);
  Value evaluate_slice(const Expression& node);
  Value evaluate_concat(const Expression& node);
  Value evaluate_compare(const Expression& node);
  Value evaluate_call(const Expression& node, const Macro* caller);
  // A chain of filters whose innermost input is absent, on `input`.
  Value apply_filters(const Expression& node, const Value& input);
  Arguments evaluate_arguments(const Expression& node);

  Value call_macro(const Macro& macro, const Arguments& arguments, const Macro* caller);
  Value call_function(Function function, const Arguments& arguments);
  Value make_namespace(const Arguments& arguments);
  Value make_dict(const Arguments& arguments);
  Value make_range(const Arguments& arguments);
  Value format_time(const Arguments& arguments);

  Options options_;
  Budget* budget_;
  Scope root_;
  Scope* scope_ = &root_;
  std::string output_;  // of the innermost capture
  int line_ = 1;
  int depth_ = 0;
  std::deque<Namespace> namespaces_;
  std::deque<Macro> macros_;
  std::vector<std::unique_ptr<Scope>> captured_scopes_;
};

}  // namespace sluice::tokenizer::chat
