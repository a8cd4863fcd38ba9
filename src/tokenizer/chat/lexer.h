#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::tokenizer::chat {

struct Token {
  enum class Kind : uint8_t {
    kText,
    kOpenOutput,   // {{
    kCloseOutput,  // }}
    kOpenBlock,    // {%
    kCloseBlock,   // %}
    kName,
    kString,  // unescaped
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string text;
  int line = 1;
};

// Cuts a template into tokens as Jinja does with trim_blocks and lstrip_blocks, which is how
// Transformers sets it; comments are gone, white space around tags is taken off. Throws Failure.
// Requires: well-formed UTF-8.
std::vector<Token> read_tokens(std::string_view source);

}  // namespace sluice::tokenizer::chat
