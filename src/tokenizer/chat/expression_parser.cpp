#include "tokenizer/chat/expression_parser.h"

#include <algorithm>
#include <charconv>

#include "tokenizer/chat/library.h"
#include "tokenizer/chat/parser.h"

namespace sluice::tokenizer::chat {

Token ExpressionParser::take() {
  Token token = now();
  if (token.kind != Token::Kind::kEnd) ++at_;
  return token;
}
bool ExpressionParser::sees_operator(std::string_view text) const {
  return now().kind == Token::Kind::kOperator && now().text == text;
}
bool ExpressionParser::sees_name(std::string_view text) const {
  return now().kind == Token::Kind::kName && now().text == text;
}
bool ExpressionParser::skip_operator(std::string_view text) {
  if (!sees_operator(text)) return false;
  ++at_;
  return true;
}
bool ExpressionParser::skip_name(std::string_view text) {
  if (!sees_name(text)) return false;
  ++at_;
  return true;
}
void ExpressionParser::expect_operator(std::string_view text) {
  if (!skip_operator(text)) unexpected();
}
std::string ExpressionParser::expect_name() {
  if (now().kind != Token::Kind::kName) unexpected();
  return take().text;
}

void ExpressionParser::fail_here(std::string reason) const {
  throw Failure{ErrorCode::kInvalidArgument, std::move(reason), now().line};
}
void ExpressionParser::refuse_here(std::string what) const {
  throw Failure{ErrorCode::kUnimplemented, std::move(what) + " is not supported", now().line};
}
void ExpressionParser::unexpected() const {
  switch (now().kind) {
    case Token::Kind::kName:
    case Token::Kind::kOperator:
    case Token::Kind::kInteger:
      fail_here("unexpected '" + now().text.substr(0, 64) + "'");
    case Token::Kind::kString:
      fail_here("unexpected string");
    case Token::Kind::kCloseBlock:
    case Token::Kind::kCloseOutput:
      fail_here("the tag ends too early");
    default:
      fail_here("the template ends inside a block or tag");
  }
}

ExpressionParser::Depth::Depth(ExpressionParser* parser) : parser_(parser) {
  if (++parser_->depth_ > kMaxParseDepth) {
    --parser_->depth_;
    throw Failure{ErrorCode::kResourceExhausted,
                  "nested more than " + std::to_string(kMaxParseDepth) + " deep",
                  parser_->now().line};
  }
}

ExpressionPtr ExpressionParser::make(Kind kind, std::string text) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = now().line;
  node->text = std::move(text);
  return node;
}

void ExpressionParser::add_child(Expression* parent, ExpressionPtr child) const {
  if (child) parent->depth = std::max(parent->depth, child->depth + 1);
  if (parent->depth > kMaxParseDepth) {
    throw Failure{ErrorCode::kResourceExhausted,
                  "an expression of more than " + std::to_string(kMaxParseDepth) + " levels",
                  now().line};
  }
  parent->children.push_back(std::move(child));
}

ExpressionPtr ExpressionParser::binary(Kind kind, std::string text, ExpressionPtr left,
                                       ExpressionPtr right) const {
  auto node = make(kind, std::move(text));
  node->line = left->line;
  add_child(node.get(), std::move(left));
  add_child(node.get(), std::move(right));
  return node;
}

bool ExpressionParser::ends_tuple() const {
  return now().kind == Token::Kind::kCloseBlock || now().kind == Token::Kind::kCloseOutput ||
         sees_operator(")") || sees_operator("=") || sees_name("in");
}

ExpressionPtr ExpressionParser::parse_tuple(bool with_condition) {
  ExpressionPtr first = parse_expression(with_condition);
  if (!sees_operator(",")) return first;
  auto tuple = make(Kind::kTuple);
  add_child(tuple.get(), std::move(first));
  while (skip_operator(",")) {
    if (ends_tuple()) break;
    add_child(tuple.get(), parse_expression(with_condition));
  }
  return tuple;
}

ExpressionPtr ExpressionParser::parse_target(bool with_attribute) {
  const Depth depth(this);
  auto tuple = make(Kind::kTuple);
  bool is_tuple = false;
  while (true) {
    if (skip_operator("(")) {
      add_child(tuple.get(), parse_target(false));
      expect_operator(")");
    } else {
      auto name = make(Kind::kName, expect_name());
      if (with_attribute && skip_operator(".")) {
        auto attribute = make(Kind::kAttribute, expect_name());
        add_child(attribute.get(), std::move(name));
        return attribute;
      }
      add_child(tuple.get(), std::move(name));
    }
    if (!skip_operator(",")) break;
    is_tuple = true;
    if (ends_tuple()) break;
  }
  return is_tuple ? std::move(tuple) : std::move(tuple->children[0]);
}

ExpressionPtr ExpressionParser::parse_expression(bool with_condition) {
  const Depth depth(this);
  ExpressionPtr node = parse_or();
  while (with_condition && skip_name("if")) {
    auto conditional = make(Kind::kConditional);
    add_child(conditional.get(), parse_or());
    add_child(conditional.get(), std::move(node));
    add_child(conditional.get(), skip_name("else") ? parse_expression() : nullptr);
    node = std::move(conditional);
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_or() {
  ExpressionPtr left = parse_and();
  while (skip_name("or")) left = binary(Kind::kOr, "", std::move(left), parse_and());
  return left;
}

ExpressionPtr ExpressionParser::parse_and() {
  ExpressionPtr left = parse_not();
  while (skip_name("and")) left = binary(Kind::kAnd, "", std::move(left), parse_not());
  return left;
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!skip_name("not")) return parse_compare();
  const Depth depth(this);
  auto node = make(Kind::kNot);
  add_child(node.get(), parse_not());
  return node;
}

std::string ExpressionParser::compare_operator() {
  static constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
  for (const std::string_view text : kOperators) {
    if (skip_operator(text)) return std::string(text);
  }
  if (skip_name("in")) return "in";
  const bool is_not_in =
      sees_name("not") && next().kind == Token::Kind::kName && next().text == "in";
  if (!is_not_in) return "";
  take();
  take();
  return "not in";
}

ExpressionPtr ExpressionParser::parse_compare() {
  ExpressionPtr first = parse_sum();
  std::string name = compare_operator();
  if (name.empty()) return first;
  auto node = make(Kind::kCompare);
  add_child(node.get(), std::move(first));
  for (; !name.empty(); name = compare_operator()) {
    node->operators.push_back(name);
    add_child(node.get(), parse_sum());
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr left = parse_concat();
  while (sees_operator("+") || sees_operator("-")) {
    std::string name = take().text;
    left = binary(Kind::kBinary, std::move(name), std::move(left), parse_concat());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concat() {
  ExpressionPtr first = parse_product();
  if (!sees_operator("~")) return first;
  auto node = make(Kind::kConcat);
  add_child(node.get(), std::move(first));
  while (skip_operator("~")) add_child(node.get(), parse_product());
  return node;
}

ExpressionPtr ExpressionParser::parse_product() {
  ExpressionPtr left = parse_power();
  while (sees_operator("*") || sees_operator("/") || sees_operator("//") || sees_operator("%")) {
    std::string name = take().text;
    left = binary(Kind::kBinary, std::move(name), std::move(left), parse_power());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_power() {
  ExpressionPtr left = parse_unary(true);
  while (skip_operator("**")) {
    left = binary(Kind::kBinary, "**", std::move(left), parse_unary(true));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filter) {
  const Depth depth(this);
  ExpressionPtr node;
  if (sees_operator("-") || sees_operator("+")) {
    node = make(Kind::kUnary, take().text);
    add_child(node.get(), parse_unary(false));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::parse_constant_or_name() {
  const std::string text = take().text;
  auto node = make(Kind::kConstant);
  if (text == "true" || text == "True") {
    node->constant = Value::boolean(true);
  } else if (text == "false" || text == "False") {
    node->constant = Value::boolean(false);
  } else if (text == "none" || text == "None") {
    node->constant = Value::none();
  } else {
    node->kind = Kind::kName;
    node->text = text;
  }
  return node;
}

ExpressionPtr ExpressionParser::parse_primary() {
  const Token& token = now();
  switch (token.kind) {
    case Token::Kind::kName:
      return parse_constant_or_name();
    case Token::Kind::kString: {
      auto node = make(Kind::kConstant);
      std::string text;
      while (now().kind == Token::Kind::kString) text += take().text;
      node->constant = Value::text(std::move(text));
      return node;
    }
    case Token::Kind::kInteger: {
      auto node = make(Kind::kConstant);
      int64_t value = 0;
      const std::string& digits = token.text;
      const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value);
      if (read.ec != std::errc()) fail_here("an integer is out of range");
      node->constant = Value::integer(value);
      take();
      return node;
    }
    case Token::Kind::kFloat: {
      auto node = make(Kind::kConstant);
      double value = 0;
      const std::string& digits = token.text;
      const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value);
      if (read.ec != std::errc()) fail_here("a number is out of range");
      node->constant = Value::number(value);
      take();
      return node;
    }
    default:
      break;
  }
  if (sees_operator("(")) return parse_parentheses();
  if (sees_operator("[")) return parse_list();
  if (sees_operator("{")) return parse_dict();
  unexpected();
}

ExpressionPtr ExpressionParser::parse_parentheses() {
  expect_operator("(");
  if (skip_operator(")")) return make(Kind::kTuple);
  ExpressionPtr node = parse_tuple();
  expect_operator(")");
  return node;
}

ExpressionPtr ExpressionParser::parse_list() {
  auto node = make(Kind::kList);
  expect_operator("[");
  while (!sees_operator("]")) {
    add_child(node.get(), parse_expression());
    if (!skip_operator(",")) break;
  }
  expect_operator("]");
  return node;
}

ExpressionPtr ExpressionParser::parse_dict() {
  auto node = make(Kind::kDict);
  expect_operator("{");
  while (!sees_operator("}")) {
    add_child(node.get(), parse_expression());
    expect_operator(":");
    add_child(node.get(), parse_expression());
    if (!skip_operator(",")) break;
  }
  expect_operator("}");
  return node;
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr node) {
  while (true) {
    if (sees_operator(".") || sees_operator("[")) {
      node = parse_subscript(std::move(node));
    } else if (sees_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr node) {
  auto made = make(Kind::kItem);
  if (skip_operator(".")) {
    if (now().kind == Token::Kind::kInteger) {
      add_child(made.get(), std::move(node));
      add_child(made.get(), parse_primary());
      return made;
    }
    made->kind = Kind::kAttribute;
    made->text = expect_name();
    add_child(made.get(), std::move(node));
    return made;
  }
  expect_operator("[");
  add_child(made.get(), std::move(node));
  ExpressionPtr parts[3];
  int colons = 0;
  while (!sees_operator("]")) {
    if (skip_operator(":")) {
      if (++colons > 2) unexpected();
    } else if (parts[colons]) {
      if (sees_operator(",")) refuse_here("a subscript with a comma");
      unexpected();
    } else {
      parts[colons] = parse_expression();
    }
  }
  expect_operator("]");
  if (colons == 0) {
    if (!parts[0]) fail_here("a subscript is empty");
    add_child(made.get(), std::move(parts[0]));
    return made;
  }
  made->kind = Kind::kSlice;
  for (ExpressionPtr& part : parts) add_child(made.get(), std::move(part));
  return made;
}

void ExpressionParser::parse_arguments(Expression* call) {
  expect_operator("(");
  constexpr size_t kMaxArguments = 64;
  while (!sees_operator(")")) {
    if (call->children.size() + call->named.size() > kMaxArguments) {
      fail_here("a call has more than " + std::to_string(kMaxArguments) + " arguments");
    }
    if (sees_operator("*") || sees_operator("**")) refuse_here("'*' in a call");
    const bool is_named = now().kind == Token::Kind::kName &&
                          next().kind == Token::Kind::kOperator && next().text == "=";
    if (is_named) {
      std::string name = expect_name();
      expect_operator("=");
      ExpressionPtr value = parse_expression();
      call->depth = std::max(call->depth, value->depth + 1);
      call->named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!call->named.empty()) fail_here("a positional argument follows a named one");
      add_child(call, parse_expression());
    }
    if (!skip_operator(",")) break;
  }
  expect_operator(")");
}

ExpressionPtr ExpressionParser::parse_call(ExpressionPtr node) {
  auto call = make(Kind::kCall);
  add_child(call.get(), std::move(node));
  parse_arguments(call.get());
  return call;
}

ExpressionPtr ExpressionParser::parse_filters_and_tests(ExpressionPtr node) {
  while (true) {
    if (sees_operator("|")) {
      node = parse_filters(std::move(node), false);
    } else if (sees_name("is")) {
      node = parse_test(std::move(node));
    } else if (sees_operator("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr input, bool starts_inside) {
  while (starts_inside || skip_operator("|")) {
    starts_inside = false;
    auto filter = make(Kind::kFilter, expect_name());
    if (!is_filter(filter->text)) refuse_here("the filter '" + filter->text.substr(0, 64) + "'");
    add_child(filter.get(), std::move(input));
    if (sees_operator("(")) parse_arguments(filter.get());
    input = std::move(filter);
  }
  return input;
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr node) {
  take();  // is
  const bool is_negated = skip_name("not");
  auto test = make(Kind::kTest, expect_name());
  if (!is_test(test->text)) refuse_here("the test '" + test->text.substr(0, 64) + "'");
  add_child(test.get(), std::move(node));
  const Token::Kind kind = now().kind;
  const bool takes_word =
      kind == Token::Kind::kName && !sees_name("else") && !sees_name("or") && !sees_name("and");
  const bool takes_constant = kind == Token::Kind::kString || kind == Token::Kind::kInteger ||
                              kind == Token::Kind::kFloat || sees_operator("[") ||
                              sees_operator("{");
  if (sees_operator("(")) {
    parse_arguments(test.get());
  } else if (takes_word || takes_constant) {
    if (sees_name("is")) fail_here("tests cannot be chained with 'is'");
    const Depth depth(this);
    add_child(test.get(), parse_postfix(parse_primary()));
  }
  if (!is_negated) return test;
  auto negation = make(Kind::kNot);
  add_child(negation.get(), std::move(test));
  return negation;
}

}  // namespace sluice::tokenizer::chat
