#pragma once

#include <string_view>

#include "tokenizer/chat/ast.h"

namespace sluice::tokenizer::chat {

// Deepest nesting of blocks and of operators in one another, so that recursion stays bounded.
inline constexpr int kMaxParseDepth = 96;

// Parses a template. Throws Failure with the line; what Jinja has and this does not is named.
// Requires: well-formed UTF-8.
Body parse_template(std::string_view source);

}  // namespace sluice::tokenizer::chat
