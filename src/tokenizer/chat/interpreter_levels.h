#pragma once

#include <memory>
#include <utility>

#include "tokenizer/chat/interpreter.h"

namespace sluice::tokenizer::chat {

// A scope inside the one that stands; lives on where a macro may still need it.
class Interpreter::Level final {
 public:
  explicit Level(Interpreter* interpreter)
      : interpreter_(interpreter), scope_(std::make_unique<Scope>()) {
    scope_->parent = interpreter_->scope_;
    interpreter_->scope_ = scope_.get();
  }
  ~Level() {
    interpreter_->scope_ = scope_->parent;
    if (scope_->is_captured) interpreter_->captured_scopes_.push_back(std::move(scope_));
  }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  Interpreter* interpreter_;
  std::unique_ptr<Scope> scope_;
};

// One step, one level of recursion, and the line for messages.
class Interpreter::Depth final {
 public:
  Depth(Interpreter* interpreter, int line) : interpreter_(interpreter) {
    interpreter_->line_ = line;
    interpreter_->budget_->take_steps(1);
    if (interpreter_->depth_ >= kMaxDepth) {
      throw Failure{ErrorCode::kResourceExhausted,
                    "evaluates more than " + std::to_string(kMaxDepth) + " levels deep"};
    }
    ++interpreter_->depth_;
  }
  ~Depth() { --interpreter_->depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  Interpreter* interpreter_;
};

}  // namespace sluice::tokenizer::chat
