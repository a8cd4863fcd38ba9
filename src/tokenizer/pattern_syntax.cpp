#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>

#include "base/utf8.h"
#include "tokenizer/pattern.h"
#include "tokenizer/recent_characters.h"

namespace sluice::tokenizer {
namespace {

constexpr int kMaxGroupDepth = 32;
constexpr size_t kMaxExpressionBytes = 8192;
constexpr int kMaxRepeat = 1000;

// White_Space of Unicode, which is Oniguruma's \s; PCRE2's has U+180E too. Second: all the rest.
constexpr std::string_view kSpaces =
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"
    "\\x{205F}\\x{3000}";
constexpr std::string_view kNotSpaces =
    "\\x{0}-\\x{8}\\x{E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}"
    "\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}"
    "\\x{2060}-\\x{2FFF}\\x{3001}-\\x{10FFFF}";

constexpr std::array<std::string_view, 37> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd", "Nl",
    "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk",
    "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Cn", "Co", "Cs"};
// Scripts are spelled sc: for PCRE2, whose plain names mean script extensions.
constexpr std::array<std::string_view, 9> kScripts = {
    "Han", "Hiragana", "Katakana", "Hangul", "Latin", "Cyrillic", "Greek", "Arabic", "Thai"};

template <size_t N>
bool contains(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string spell(char32_t character) {
  char buffer[16];
  std::snprintf(buffer, sizeof(buffer), "\\x{%X}", static_cast<unsigned>(character));
  return buffer;
}

class Translator {
 public:
  Translator(std::string_view expression, bool with_recent_characters)
      : text_(expression), with_recent_characters_(with_recent_characters) {}

  Result<std::string> run() {
    if (text_.size() > kMaxExpressionBytes) return unsupported("an expression of over 8192 bytes");
    if (find_ill_formed_utf8(text_) != std::string_view::npos) {
      return invalid_argument("the expression is not UTF-8");
    }
    while (!at_end()) {
      if (auto done = element(); !done) return std::unexpected(done.error());
    }
    if (depth_ != 0) return invalid_argument("a group of the expression is not closed");
    return std::move(out_);
  }

 private:
  // One \-escape, either a character or a class.
  struct Escape {
    char32_t character = 0;
    std::string set;          // members, as they stand inside brackets; empty: a character
    bool is_negated = false;  // all but the members
  };

  bool at_end() const { return pos_ >= text_.size(); }
  bool looking_at(std::string_view next) const { return text_.substr(pos_).starts_with(next); }
  bool accept(std::string_view next) {
    if (!looking_at(next)) return false;
    pos_ += next.size();
    return true;
  }
  char32_t take() {
    size_t length = 0;
    const char32_t character = decode_utf8_character(text_.substr(pos_), &length);
    pos_ += length;
    return character;
  }
  std::unexpected<Error> unsupported(const std::string& what) const {
    return fail(ErrorCode::kUnimplemented,
                what + " at byte " + std::to_string(pos_) + " of the expression is not supported");
  }

  Result<void> element() {
    if (accept("[")) return bracket();
    if (accept("(")) return group();
    if (accept(")")) {
      if (--depth_ < 0) return invalid_argument("the expression closes a group that is not open");
      out_ += ')';
      return {};
    }
    if (accept("\\")) {
      auto escape = read_escape();
      if (!escape) return std::unexpected(escape.error());
      const char* open = escape->is_negated ? "[^" : "[";
      out_ += escape->set.empty() ? spell(escape->character) : open + escape->set + "]";
      return {};
    }
    if (looking_at("^") || looking_at("$")) return unsupported("an anchor");
    if (accept(".")) {
      out_ += "[^\\x{A}]";
      return {};
    }
    if (accept("{")) return interval();
    for (const char* plain : {"|", "?", "*", "+"}) {
      if (accept(plain)) {
        out_ += plain;
        return {};
      }
    }
    out_ += spell(take());
    return {};
  }

  Result<void> group() {
    if (++depth_ > kMaxGroupDepth) return unsupported("nesting over 32 groups");
    if (!looking_at("?")) {
      out_ += "(?:";  // what a group captured is not used
      return {};
    }
    for (const char* kind : {"?:", "?=", "?!", "?<=", "?<!", "?>", "?i:"}) {
      if (accept(kind)) {
        out_ += std::string("(") + kind;
        return {};
      }
    }
    return unsupported("this kind of group");
  }

  // {n}, {n,} and {n,m}; what may follow them differs between the libraries.
  Result<void> interval() {
    const size_t close = text_.find('}', pos_);
    if (close == std::string_view::npos) return unsupported("a brace");
    const std::string_view inside = text_.substr(pos_, close - pos_);
    const size_t comma = inside.find(',');
    const auto is_count = [](std::string_view digits) {
      return !digits.empty() && digits.size() <= 4 &&
             digits.find_first_not_of("0123456789") == std::string_view::npos &&
             std::stoi(std::string(digits)) <= kMaxRepeat;
    };
    const std::string_view least = inside.substr(0, comma);
    const std::string_view most =
        comma == std::string_view::npos ? std::string_view() : inside.substr(comma + 1);
    if (!is_count(least) || (!most.empty() && !is_count(most))) return unsupported("a brace");
    pos_ = close + 1;
    if (looking_at("?") || looking_at("+")) return unsupported("a repeated repetition");
    out_ += "{" + std::string(inside) + "}";
    return {};
  }

  // After the opening bracket. A class inside a class is a union.
  Result<void> bracket() {
    out_ += accept("^") ? "[^" : "[";
    if (looking_at("]")) return unsupported("an empty class");
    if (auto done = bracket_items(0); !done) return done;
    out_ += ']';
    return {};
  }

  Result<void> bracket_items(int depth) {
    if (depth > kMaxGroupDepth) return unsupported("nesting over 32 classes");
    while (!accept("]")) {
      if (at_end()) return invalid_argument("a class of the expression is not closed");
      if (looking_at("&&")) return unsupported("an intersection of classes");
      if (accept("[")) {
        if (looking_at("^") || looking_at(":") || looking_at("]")) {
          return unsupported("this kind of nested class");
        }
        if (auto done = bracket_items(depth + 1); !done) return done;
        continue;
      }
      if (auto done = bracket_item(); !done) return done;
    }
    return {};
  }

  Result<Escape> bracket_character() {
    if (accept("\\")) return read_escape();
    return Escape{take(), {}};
  }

  Result<void> bracket_item() {
    auto first = bracket_character();
    if (!first) return std::unexpected(first.error());
    if (!first->set.empty()) {
      if (first->is_negated) return unsupported("a negated property in a class");
      out_ += first->set;
      if (looking_at("-") && !looking_at("-]")) return unsupported("a range from a class");
      return {};
    }
    out_ += spell(first->character);
    if (!looking_at("-") || looking_at("-]")) return {};
    pos_ += 1;
    if (at_end() || looking_at("[")) return unsupported("this range");
    auto last = bracket_character();
    if (!last) return std::unexpected(last.error());
    if (!last->set.empty() || last->character < first->character) return unsupported("this range");
    out_ += "-" + spell(last->character);
    return {};
  }

  // After the backslash.
  Result<Escape> read_escape() {
    if (at_end()) return invalid_argument("the expression ends in a backslash");
    const char32_t kind = take();
    switch (kind) {
      case 's':
        return Escape{0, std::string(kSpaces)};
      case 'S':
        return Escape{0, std::string(kNotSpaces)};
      case 'd':
      case 'D':
        return digits(kind == 'D');
      case 'p':
      case 'P':
        return property(kind == 'P');
      case 'r':
        return Escape{'\r', {}};
      case 'n':
        return Escape{'\n', {}};
      case 't':
        return Escape{'\t', {}};
      case 'f':
        return Escape{'\f', {}};
      case 'v':
        return Escape{'\v', {}};
      case 'u':
        return hexadecimal(4);
      case 'x':
        if (accept("{")) {
          const size_t close = text_.find('}', pos_);
          if (close == std::string_view::npos || close - pos_ > 6) return unsupported("\\x");
          auto escape = hexadecimal(close - pos_);
          pos_ += 1;
          return escape;
        }
        return unsupported("\\x without braces");
      default:
        break;
    }
    const bool is_word = (kind >= '0' && kind <= '9') || (kind >= 'a' && kind <= 'z') ||
                         (kind >= 'A' && kind <= 'Z');
    if (is_word) return unsupported("the escape \\" + std::string(1, static_cast<char>(kind)));
    return Escape{kind, {}};
  }

  Result<Escape> hexadecimal(size_t num_digits) {
    const std::string digits(text_.substr(pos_, num_digits));
    if (digits.empty() || digits.size() != num_digits ||
        digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
      return unsupported("this hexadecimal escape");
    }
    const auto character = static_cast<char32_t>(std::stoul(digits, nullptr, 16));
    if (character > 0x10FFFF || (character >= 0xD800 && character < 0xE000)) {
      return unsupported("an escape for no character");
    }
    pos_ += num_digits;
    return Escape{character, {}};
  }

  Escape digits(bool is_negated) const {
    return {0, "\\p{Nd}" + (with_recent_characters_ ? recent_class_members("Nd") : ""), is_negated};
  }

  Result<Escape> property(bool is_negated) {
    const size_t close = text_.find('}', pos_);
    if (!looking_at("{") || close == std::string_view::npos)
      return unsupported("\\p without braces");
    const std::string name(text_.substr(pos_ + 1, close - pos_ - 1));
    const bool is_script = contains(kScripts, name);
    if (!is_script && !contains(kCategories, name)) return unsupported("this property");
    pos_ = close + 1;
    if (is_script) return Escape{0, "\\p{sc:" + name + "}", is_negated};
    const std::string recent = with_recent_characters_ ? recent_class_members(name) : "";
    return Escape{0, "\\p{" + name + "}" + recent, is_negated};
  }

  std::string_view text_;
  bool with_recent_characters_;
  size_t pos_ = 0;
  int depth_ = 0;
  std::string out_;
};

}  // namespace

Result<std::string> translate_expression(std::string_view expression, bool with_recent_characters) {
  return Translator(expression, with_recent_characters).run();
}

}  // namespace sluice::tokenizer
