#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/chat/ast.h"
#include "tokenizer/chat/lexer.h"

namespace sluice::tokenizer::chat {

// Reads expressions off a list of tokens, with Jinja's precedences. Throws Failure.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  const Token& now() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take();
  bool sees_operator(std::string_view text) const;
  bool sees_name(std::string_view text) const;
  bool skip_operator(std::string_view text);
  bool skip_name(std::string_view text);
  void expect_operator(std::string_view text);
  std::string expect_name();
  [[noreturn]] void unexpected() const;
  [[noreturn]] void fail_here(std::string reason) const;
  [[noreturn]] void refuse_here(std::string what) const;

  // One expression or, with commas, a tuple; without conditions ("a if b") where Jinja has none.
  ExpressionPtr parse_tuple(bool with_condition = true);
  ExpressionPtr parse_expression(bool with_condition = true);
  // A name, a tuple of names or, if allowed, name.attribute.
  ExpressionPtr parse_target(bool with_attribute);
  // "| name(...)", any number of them, on `input`; without a first "|" if `starts_inside`.
  ExpressionPtr parse_filters(ExpressionPtr input, bool starts_inside);

  // Guards recursion; one lives in each function that can contain itself.
  class Depth final {
   public:
    explicit Depth(ExpressionParser* parser);
    ~Depth() { --parser_->depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    ExpressionParser* parser_;
  };

 private:
  using Kind = Expression::Kind;
  ExpressionPtr make(Kind kind, std::string text = "") const;
  void add_child(Expression* parent, ExpressionPtr child) const;
  ExpressionPtr binary(Kind kind, std::string text, ExpressionPtr left, ExpressionPtr right) const;

  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filter);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_constant_or_name();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_parentheses();
  ExpressionPtr parse_postfix(ExpressionPtr node);
  ExpressionPtr parse_subscript(ExpressionPtr node);
  ExpressionPtr parse_call(ExpressionPtr node);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr node);
  ExpressionPtr parse_test(ExpressionPtr node);
  void parse_arguments(Expression* call);
  std::string compare_operator();
  bool ends_tuple() const;

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace sluice::tokenizer::chat
