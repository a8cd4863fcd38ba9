#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/chat/value.h"

// A parsed template.
namespace sluice::tokenizer::chat {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind : uint8_t {
    kConstant,     // constant
    kName,         // text
    kList,         // children
    kTuple,        // children
    kDict,         // children: key, value, key, value, ...
    kAttribute,    // child 0 . text
    kItem,         // child 0 [child 1]
    kSlice,        // child 0 [child 1 : child 2 : child 3], each but the first may be null
    kCall,         // child 0 (children 1..., named)
    kFilter,       // child 0 | text (children 1..., named); child 0 null in a filter block
    kTest,         // child 0 is text (children 1..., named)
    kNot,          // child 0
    kUnary,        // text child 0
    kBinary,       // child 0 text child 1
    kConcat,       // children
    kCompare,      // child 0 operators[0] child 1 operators[1] child 2 ...
    kAnd,          // child 0, child 1
    kOr,           // child 0, child 1
    kConditional,  // child 1 if child 0 else child 2, which may be null
  };
  Kind kind = Kind::kConstant;
  int line = 0;
  int depth = 1;  // of the tree below, itself included
  std::string text;
  Value constant;
  std::vector<ExpressionPtr> children;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<std::string> operators;
};

struct Statement;
using Body = std::vector<Statement>;

struct Statement {
  enum class Kind : uint8_t {
    kText,        // text
    kOutput,      // expression
    kIf,          // branches, otherwise
    kFor,         // for target in expression [if condition]: body, otherwise
    kSet,         // target = expression
    kSetBlock,    // target = body, through the filters of expression if there are any
    kMacro,       // text(parameters): body
    kCall,        // expression with a caller(parameters) of body
    kFilter,      // expression around body
    kWith,        // assignments, body
    kGeneration,  // body
    kBreak,
    kContinue,
  };
  struct Parameter {
    std::string name;
    ExpressionPtr default_value;  // may be null
  };
  struct Branch;

  Kind kind = Kind::kText;
  int line = 0;
  std::string text;
  ExpressionPtr target;  // a kName, a kTuple of targets, or a kAttribute of a kName
  ExpressionPtr expression;
  ExpressionPtr condition;
  std::vector<Parameter> parameters;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> assignments;
  std::vector<Branch> branches;
  Body body;
  Body otherwise;
};

struct Statement::Branch {
  ExpressionPtr condition;
  Body body;
};

}  // namespace sluice::tokenizer::chat
