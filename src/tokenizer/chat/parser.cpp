#include "tokenizer/chat/parser.h"

#include <algorithm>

#include "tokenizer/chat/expression_parser.h"

namespace sluice::tokenizer::chat {
namespace {

class Parser final : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Body parse_all() {
    Body body = parse_body({});
    if (now().kind != Token::Kind::kEnd) unexpected();
    return body;
  }

 private:
  using Kind = Statement::Kind;
  using Names = std::initializer_list<std::string_view>;

  Statement make(Kind kind) const {
    Statement statement;
    statement.kind = kind;
    statement.line = now().line;
    return statement;
  }

  // Statements up to a block tag that starts with one of `ends`, which stays: the tag's name is the
  // next token. Without `ends`: to the template's end.
  Body parse_body(Names ends) {
    const Depth depth(this);
    Body body;
    while (now().kind != Token::Kind::kEnd) {
      if (now().kind == Token::Kind::kText) {
        Statement text = make(Kind::kText);
        text.text = take().text;
        body.push_back(std::move(text));
      } else if (now().kind == Token::Kind::kOpenOutput) {
        take();
        Statement output = make(Kind::kOutput);
        output.expression = parse_tuple();
        if (now().kind != Token::Kind::kCloseOutput) unexpected();
        take();
        body.push_back(std::move(output));
      } else {
        take();  // {%
        if (std::ranges::any_of(ends, [&](std::string_view end) { return sees_name(end); })) {
          return body;
        }
        body.push_back(parse_statement());
      }
    }
    if (ends.size() > 0) fail_here("{% " + std::string(*(ends.end() - 1)) + " %} is missing");
    return body;
  }

  void close() {
    if (now().kind != Token::Kind::kCloseBlock) unexpected();
    take();
  }

  // The body up to {% end %}, both passed.
  Body parse_body_and_end(std::string_view end) {
    close();
    Body body = parse_body({end});
    take();
    close();
    return body;
  }

  Statement parse_statement() {
    if (now().kind != Token::Kind::kName) unexpected();
    const std::string name = now().text;
    if (name == "if") return parse_if();
    if (name == "for") return parse_for();
    if (name == "set") return parse_set();
    if (name == "macro") return parse_macro();
    if (name == "call") return parse_call_block();
    if (name == "filter") return parse_filter_block();
    if (name == "with") return parse_with();
    if (name == "generation") {
      Statement statement = make(Kind::kGeneration);
      take();
      statement.body = parse_body_and_end("endgeneration");
      return statement;
    }
    if (name == "break" || name == "continue") {
      if (loop_depth_ == 0) fail_here("'" + name + "' outside a loop");
      Statement statement = make(name == "break" ? Kind::kBreak : Kind::kContinue);
      take();
      close();
      return statement;
    }
    if (name.starts_with("end") || name == "else" || name == "elif") unexpected();
    refuse_here("the tag '" + name.substr(0, 64) + "'");
  }

  Statement parse_if() {
    Statement statement = make(Kind::kIf);
    do {
      take();  // if, elif
      Statement::Branch branch;
      branch.condition = parse_tuple(false);
      close();
      branch.body = parse_body({"elif", "else", "endif"});
      statement.branches.push_back(std::move(branch));
    } while (sees_name("elif"));
    if (skip_name("else")) {
      close();
      statement.otherwise = parse_body({"endif"});
    }
    take();  // endif
    close();
    return statement;
  }

  Statement parse_for() {
    Statement statement = make(Kind::kFor);
    take();
    statement.target = parse_target(false);
    if (!skip_name("in")) unexpected();
    statement.expression = parse_tuple(false);
    if (skip_name("if")) statement.condition = parse_expression();
    if (sees_name("recursive")) refuse_here("'recursive' of a loop");
    close();
    ++loop_depth_;
    statement.body = parse_body({"else", "endfor"});
    --loop_depth_;
    if (skip_name("else")) {
      close();
      statement.otherwise = parse_body({"endfor"});
    }
    take();  // endfor
    close();
    return statement;
  }

  Statement parse_set() {
    Statement statement = make(Kind::kSet);
    take();
    statement.target = parse_target(true);
    if (skip_operator("=")) {
      statement.expression = parse_tuple();
      close();
      return statement;
    }
    statement.kind = Kind::kSetBlock;
    if (sees_operator("|")) statement.expression = parse_filters(nullptr, false);
    statement.body = parse_inner_body("endset");
    return statement;
  }

  // A body that a break of a loop around it cannot leave.
  Body parse_inner_body(std::string_view end) {
    const int loop_depth = std::exchange(loop_depth_, 0);
    Body body = parse_body_and_end(end);
    loop_depth_ = loop_depth;
    return body;
  }

  std::vector<Statement::Parameter> parse_parameters() {
    std::vector<Statement::Parameter> parameters;
    expect_operator("(");
    while (!sees_operator(")")) {
      Statement::Parameter parameter;
      parameter.name = expect_name();
      if (skip_operator("=")) {
        parameter.default_value = parse_expression();
      } else if (!parameters.empty() && parameters.back().default_value) {
        fail_here("a parameter without a default follows one with");
      }
      parameters.push_back(std::move(parameter));
      if (!skip_operator(",")) break;
    }
    expect_operator(")");
    return parameters;
  }

  Statement parse_macro() {
    Statement statement = make(Kind::kMacro);
    take();
    statement.text = expect_name();
    statement.parameters = parse_parameters();
    statement.body = parse_inner_body("endmacro");
    return statement;
  }

  Statement parse_call_block() {
    Statement statement = make(Kind::kCall);
    take();
    if (sees_operator("(")) statement.parameters = parse_parameters();
    statement.expression = parse_expression();
    if (statement.expression->kind != Expression::Kind::kCall) fail_here("{% call %} needs a call");
    statement.body = parse_inner_body("endcall");
    return statement;
  }

  Statement parse_filter_block() {
    Statement statement = make(Kind::kFilter);
    take();
    statement.expression = parse_filters(nullptr, true);
    statement.body = parse_inner_body("endfilter");
    return statement;
  }

  Statement parse_with() {
    Statement statement = make(Kind::kWith);
    take();
    while (now().kind != Token::Kind::kCloseBlock) {
      ExpressionPtr target = parse_target(false);
      expect_operator("=");
      statement.assignments.emplace_back(std::move(target), parse_expression());
      if (!skip_operator(",")) break;
    }
    statement.body = parse_body_and_end("endwith");
    return statement;
  }

  int loop_depth_ = 0;
};

}  // namespace

Body parse_template(std::string_view source) {
  return Parser(read_tokens(source)).parse_all();
}

}  // namespace sluice::tokenizer::chat
