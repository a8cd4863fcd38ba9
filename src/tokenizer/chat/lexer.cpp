#include "tokenizer/chat/lexer.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/utf8.h"
#include "tokenizer/chat/text.h"
#include "tokenizer/chat/value.h"

namespace sluice::tokenizer::chat {
namespace {

// Line ends become '\n', and one at the very end goes.
std::string normalize_lines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
    } else {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

bool is_ascii_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name_byte(char c) {
  return is_ascii_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
int hex_digit(char c) {
  if (is_ascii_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class Lexer final {
 public:
  explicit Lexer(std::string_view source) : text_(normalize_lines(source)), rest_(text_) {}

  std::vector<Token> read() {
    while (!rest_.empty()) read_text();
    add(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail_here(std::string reason) const {
    throw Failure{ErrorCode::kInvalidArgument, std::move(reason), line_};
  }

  void add(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }

  // Passes `count` bytes and counts their lines.
  std::string_view take(size_t count) {
    const std::string_view taken = rest_.substr(0, count);
    line_ += static_cast<int>(std::ranges::count(taken, '\n'));
    if (!taken.empty()) at_line_start_ = taken.back() == '\n';
    rest_.remove_prefix(count);
    return taken;
  }

  // Text up to the next tag, then the tag.
  void read_text() {
    size_t end = 0;
    while (end < rest_.size() && !is_tag(end)) ++end;
    if (end == rest_.size()) {
      add(Token::Kind::kText, std::string(rest_));
      take(end);
      return;
    }
    const char sort = rest_[end + 1];
    const char sign = end + 2 < rest_.size() ? rest_[end + 2] : '\0';
    const bool has_sign = sign == '-' || sign == '+';
    std::string_view text = rest_.substr(0, end);
    if (sign == '-') {
      text.remove_suffix(trailing_space(text));
    } else if (sign != '+' && sort != '{') {
      text = without_indent(text);
    }
    if (!text.empty()) add(Token::Kind::kText, std::string(text));
    take(end + 2 + (has_sign ? 1 : 0));
    if (sort == '#') {
      skip_comment();
    } else if (sort == '%' && opens_raw()) {
      read_raw();
    } else {
      read_code(sort == '{');
    }
  }

  bool is_tag(size_t at) const {
    if (rest_[at] != '{' || at + 1 == rest_.size()) return false;
    return rest_[at + 1] == '{' || rest_[at + 1] == '%' || rest_[at + 1] == '#';
  }

  // lstrip_blocks: white space between the line's start and a tag goes.
  std::string_view without_indent(std::string_view text) const {
    const size_t line_end = text.rfind('\n');
    if (line_end == std::string_view::npos && !at_line_start_) return text;
    const size_t start = line_end == std::string_view::npos ? 0 : line_end + 1;
    const bool is_space = leading_space(text.substr(start)) == text.size() - start;
    return is_space ? text.substr(0, start) : text;
  }

  // Passes a tag's end, whose sign is `sign`: "-" takes all white space, none one line end.
  void close_tag(size_t length, char sign, bool trims_line) {
    take(length);
    if (sign == '-') {
      if (const size_t space = leading_space(rest_); space > 0) take(space);
    } else if (sign != '+' && trims_line && rest_.starts_with('\n')) {
      take(1);
    }
  }

  void skip_comment() {
    const size_t end = rest_.find("#}");
    if (end == std::string_view::npos) fail_here("a comment is not closed");
    const char sign = end > 0 ? rest_[end - 1] : '\0';
    close_tag(end + 2, sign, true);
  }

  // Whether the tag that was just opened is {% raw %}, without passing it.
  bool opens_raw() const {
    std::string_view rest = rest_.substr(leading_space(rest_));
    if (!rest.starts_with("raw")) return false;
    rest.remove_prefix(3);
    rest.remove_prefix(leading_space(rest));
    return rest.starts_with("%}") || rest.starts_with("-%}");
  }

  void read_raw() {
    const size_t begin_end = rest_.find("%}");
    const bool trims = begin_end > 0 && rest_[begin_end - 1] == '-';
    close_tag(begin_end + 2, trims ? '-' : '\0', false);
    for (size_t at = 0; (at = rest_.find("{%", at)) != std::string_view::npos; at += 2) {
      std::string_view tag = rest_.substr(at + 2);
      const char sign = !tag.empty() && (tag[0] == '-' || tag[0] == '+') ? tag[0] : '\0';
      if (sign != '\0') tag.remove_prefix(1);
      tag.remove_prefix(leading_space(tag));
      if (!tag.starts_with("endraw")) continue;
      tag.remove_prefix(6);
      tag.remove_prefix(leading_space(tag));
      const char end_sign = !tag.empty() && (tag[0] == '-' || tag[0] == '+') ? tag[0] : '\0';
      if (end_sign != '\0') tag.remove_prefix(1);
      if (!tag.starts_with("%}")) continue;
      std::string_view text = rest_.substr(0, at);
      if (sign == '-') text.remove_suffix(trailing_space(text));
      if (sign == '\0') text = without_indent(text);
      add(Token::Kind::kText, std::string(text));
      close_tag(rest_.size() - tag.size() + 2, end_sign, true);
      return;
    }
    fail_here("{% raw %} is not closed");
  }

  // The inside of {{ }} or {% %}.
  void read_code(bool is_output) {
    add(is_output ? Token::Kind::kOpenOutput : Token::Kind::kOpenBlock, "");
    const std::string_view end = is_output ? "}}" : "%}";
    std::string open_brackets;
    while (true) {
      take(leading_space(rest_));
      if (rest_.empty()) fail_here("a tag is not closed");
      if (open_brackets.empty()) {
        const bool signed_minus = rest_[0] == '-';
        const bool signed_plus = rest_[0] == '+' && !is_output;
        const size_t at = signed_minus || signed_plus ? 1 : 0;
        if (rest_.substr(at).starts_with(end)) {
          add(is_output ? Token::Kind::kCloseOutput : Token::Kind::kCloseBlock, "");
          close_tag(at + 2, at == 0 ? '\0' : rest_[0], !is_output);
          return;
        }
      }
      read_code_token(&open_brackets);
    }
  }

  void read_code_token(std::string* open_brackets) {
    const char c = rest_[0];
    if (c == '\'' || c == '"') {
      read_string();
    } else if (is_ascii_digit(c)) {
      read_number();
    } else if (is_name_byte(c)) {
      const auto end = std::ranges::find_if_not(rest_, is_name_byte);
      add(Token::Kind::kName, std::string(take(static_cast<size_t>(end - rest_.begin()))));
    } else {
      read_operator(open_brackets);
    }
  }

  void read_operator(std::string* open_brackets) {
    static constexpr std::array<std::string_view, 25> kOperators = {
        "//", "**", "==", "!=", "<=", ">=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","};
    const auto found = std::ranges::find_if(
        kOperators, [&](std::string_view name) { return rest_.starts_with(name); });
    if (found == kOperators.end()) fail_here("unexpected character in a tag");
    const char c = rest_[0];
    if (c == '(' || c == '[' || c == '{') *open_brackets += c;
    if (c == ')' || c == ']' || c == '}') {
      const char opening = c == ')' ? '(' : c == ']' ? '[' : '{';
      if (!open_brackets->ends_with(opening)) fail_here(std::string("unexpected '") + c + "'");
      open_brackets->pop_back();
    }
    add(Token::Kind::kOperator, std::string(take(found->size())));
  }

  size_t digits_at(size_t at) const {
    size_t end = at;
    while (end < rest_.size() && is_ascii_digit(rest_[end])) ++end;
    return end - at;
  }

  void read_number() {
    size_t end = digits_at(0);
    bool is_float = false;
    // "1.2.3" is a number, then an attribute; after a dot there is no fraction: "x.1.2".
    const bool after_dot = !tokens_.empty() && tokens_.back().kind == Token::Kind::kOperator &&
                           tokens_.back().text == ".";
    if (!after_dot && end < rest_.size() && rest_[end] == '.') {
      if (const size_t fraction = digits_at(end + 1); fraction > 0) {
        end += 1 + fraction;
        is_float = true;
      }
    }
    if (!after_dot && end < rest_.size() && (rest_[end] == 'e' || rest_[end] == 'E')) {
      const bool has_sign =
          end + 1 < rest_.size() && (rest_[end + 1] == '-' || rest_[end + 1] == '+');
      const size_t start = end + 1 + (has_sign ? 1 : 0);
      if (const size_t digits = digits_at(start); digits > 0) {
        end = start + digits;
        is_float = true;
      }
    }
    if (end < rest_.size() && is_name_byte(rest_[end]))
      fail_here("a number of this form is not supported");
    add(is_float ? Token::Kind::kFloat : Token::Kind::kInteger, std::string(take(end)));
  }

  void read_string() {
    const char quote = rest_[0];
    size_t end = 1;
    while (end < rest_.size() && rest_[end] != quote) end += rest_[end] == '\\' ? 2 : 1;
    if (end >= rest_.size()) fail_here("a string is not closed");
    std::string text = unescape(rest_.substr(1, end - 1));
    add(Token::Kind::kString, std::move(text));
    take(end + 1);
  }

  // Python's escapes in string literals; an unknown one stays as it is.
  std::string unescape(std::string_view text) const {
    static constexpr std::string_view kFrom = "abfnrtv\\'\"";
    static constexpr std::string_view kTo = "\a\b\f\n\r\t\v\\'\"";
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\') {
        out += text[i];
        continue;
      }
      const char c = text[++i];  // the lexer has seen that there is one
      if (const size_t known = kFrom.find(c); known != std::string_view::npos) {
        out += kTo[known];
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        append_utf8(read_code_point(text.substr(i + 1, digits), digits), &out);
        i += digits;
      } else if (c >= '0' && c <= '7') {
        char32_t code = 0;
        size_t used = 0;
        while (used < 3 && i + used < text.size() && text[i + used] >= '0' &&
               text[i + used] <= '7') {
          code = code * 8 + static_cast<char32_t>(text[i + used++] - '0');
        }
        append_utf8(code, &out);
        i += used - 1;
      } else if (c == 'N') {
        fail_here("\\N in a string is not supported");
      } else if (c != '\n') {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  char32_t read_code_point(std::string_view digits, size_t count) const {
    char32_t code = 0;
    if (digits.size() < count) fail_here("a string has an incomplete escape");
    for (const char c : digits) {
      const int digit = hex_digit(c);
      if (digit < 0) fail_here("a string has an incomplete escape");
      code = code * 16 + static_cast<char32_t>(digit);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
      fail_here("a string has an escape that is no character");
    }
    return code;
  }

  std::string text_;
  std::string_view rest_;
  std::vector<Token> tokens_;
  int line_ = 1;
  bool at_line_start_ = true;
};

}  // namespace

std::vector<Token> read_tokens(std::string_view source) {
  return Lexer(source).read();
}

}  // namespace sluice::tokenizer::chat
