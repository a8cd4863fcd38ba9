#include "base/json_scanner.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/utf8.h"

namespace sluice {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::unexpected<Error> too_deep(int depth, int max_depth) {
  return invalid_argument("JSON is nested " + std::to_string(depth) + " deep, limit is " +
                          std::to_string(max_depth));
}

// Deepest nesting of brackets outside strings, of a text that turned out to be too deep.
int nesting_depth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

class Scanner {
 public:
  Scanner(std::string_view text, int max_depth, JsonHandler* handler)
      : text_(text), max_depth_(max_depth), handler_(handler) {}

  Result<void> run() {
    if (text_.starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
    do {
      if (auto done = value(); !done) return done;
      if (auto done = after_value(); !done) return done;
    } while (!open_.empty());
    skip_space();
    return at_ == text_.size() ? Result<void>() : wrong();
  }

 private:
  std::unexpected<Error> wrong() const {
    return invalid_argument("not valid JSON at byte " + std::to_string(at_));
  }
  char now() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return;
      ++at_;
    }
  }

  // A scalar, a string, an empty container, or the way into the next container's first value.
  Result<void> value() {
    while (true) {
      skip_space();
      const char c = now();
      if (c == '"') {
        const auto string = read_string();
        return string ? handler_->text(*string) : std::unexpected(string.error());
      }
      if (c != '{' && c != '[') return scalar();
      if (open_.size() >= static_cast<size_t>(max_depth_)) {
        return too_deep(nesting_depth(text_), max_depth_);
      }
      if (auto done = handler_->begin(c); !done) return done;
      ++at_;
      skip_space();
      if (now() == (c == '{' ? '}' : ']')) {
        ++at_;
        return handler_->end();
      }
      open_.push_back(c);
      if (c == '{') {
        if (auto done = key(); !done) return done;
      }
    }
  }

  Result<void> key() {
    skip_space();
    if (now() != '"') return wrong();
    const auto name = read_string();
    if (!name) return std::unexpected(name.error());
    if (auto done = handler_->key(*name); !done) return done;
    skip_space();
    if (now() != ':') return wrong();
    ++at_;
    return {};
  }

  // Ends containers, up to the comma before another value.
  Result<void> after_value() {
    while (!open_.empty()) {
      skip_space();
      const bool is_object = open_.back() == '{';
      if (now() == ',') {
        ++at_;
        return is_object ? key() : Result<void>();
      }
      if (now() != (is_object ? '}' : ']')) return wrong();
      ++at_;
      open_.pop_back();
      if (auto done = handler_->end(); !done) return done;
    }
    return {};
  }

  Result<void> scalar() {
    const std::string_view rest = text_.substr(at_);
    if (rest.starts_with("null")) return word(4, nullptr);
    if (rest.starts_with("true")) return word(4, true);
    if (rest.starts_with("false")) return word(5, false);
    return number();
  }

  Result<void> word(size_t length, Json value) {
    at_ += length;
    return handler_->scalar(std::move(value));
  }

  bool skip_digits() {
    const size_t begin = at_;
    while (is_digit(now())) ++at_;
    return at_ > begin;
  }

  Result<void> number() {
    const size_t begin = at_;
    bool is_integer = true;
    if (now() == '-') ++at_;
    if (now() == '0') {
      ++at_;
    } else if (!skip_digits()) {
      return wrong();
    }
    if (now() == '.') {
      is_integer = false;
      ++at_;
      if (!skip_digits()) return wrong();
    }
    if (now() == 'e' || now() == 'E') {
      is_integer = false;
      ++at_;
      if (now() == '+' || now() == '-') ++at_;
      if (!skip_digits()) return wrong();
    }
    return number_value(text_.substr(begin, at_ - begin), is_integer);
  }

  Result<void> number_value(std::string_view digits, bool is_integer) {
    const char* end = digits.data() + digits.size();
    if (is_integer && digits.front() != '-') {
      uint64_t value = 0;
      if (std::from_chars(digits.data(), end, value).ec == std::errc()) {
        return handler_->scalar(value);
      }
    } else if (is_integer) {
      int64_t value = 0;
      if (std::from_chars(digits.data(), end, value).ec == std::errc()) {
        return handler_->scalar(value);
      }
    }
    double value = 0;
    if (std::from_chars(digits.data(), end, value).ec != std::errc()) {
      value = std::strtod(std::string(digits).c_str(), nullptr);  // tells 1e999 from 1e-999
    }
    if (!std::isfinite(value)) return invalid_argument("not valid JSON (a number is out of range)");
    return handler_->scalar(value);
  }

  // The string at the cursor, a part of the text where it has no escapes.
  Result<std::string_view> read_string() {
    const size_t begin = ++at_;
    skip_plain();
    if (now() == '"') return text_.substr(begin, at_++ - begin);
    scratch_.assign(text_.substr(begin, at_ - begin));
    while (now() != '"') {
      if (now() != '\\') return wrong();  // a control character or the end of the text
      ++at_;
      if (!append_escape()) return wrong();
      const size_t plain = at_;
      skip_plain();
      scratch_.append(text_.substr(plain, at_ - plain));
    }
    ++at_;
    return std::string_view(scratch_);
  }

  // To the next quote, backslash or control character, eight bytes at a time.
  void skip_plain() {
    constexpr uint64_t kOnes = 0x0101010101010101ULL;
    constexpr uint64_t kHighs = 0x8080808080808080ULL;
    while (at_ + 8 <= text_.size()) {
      uint64_t eight;
      std::memcpy(&eight, text_.data() + at_, sizeof(eight));
      const uint64_t quotes = eight ^ (kOnes * '"');
      const uint64_t slashes = eight ^ (kOnes * '\\');
      const uint64_t found = ((quotes - kOnes) & ~quotes) | ((slashes - kOnes) & ~slashes) |
                             ((eight - kOnes * 0x20) & ~eight);
      if ((found & kHighs) != 0) {
        at_ += static_cast<size_t>(__builtin_ctzll(found & kHighs)) / 8;
        return;
      }
      at_ += 8;
    }
    while (at_ < text_.size()) {
      const auto c = static_cast<uint8_t>(text_[at_]);
      if (c == '"' || c == '\\' || c < 0x20) return;
      ++at_;
    }
  }

  bool append_escape() {
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
    const char name = now();
    if (name == 'u') {
      ++at_;
      return append_unicode_escape();
    }
    const size_t idx = name == '\0' ? std::string_view::npos : kNames.find(name);
    if (idx == std::string_view::npos) return false;
    scratch_ += kValues[idx];
    ++at_;
    return true;
  }

  bool append_unicode_escape() {
    uint32_t character = 0;
    if (!read_hexadecimal(&character)) return false;
    if (character >= 0xD800 && character < 0xDC00) {
      uint32_t low = 0;
      if (!text_.substr(at_).starts_with("\\u")) return false;
      at_ += 2;
      if (!read_hexadecimal(&low) || low < 0xDC00 || low > 0xDFFF) return false;
      character = 0x10000 + ((character - 0xD800) << 10) + (low - 0xDC00);
    } else if (character >= 0xDC00 && character < 0xE000) {
      return false;
    }
    append_utf8(character, &scratch_);
    return true;
  }

  bool read_hexadecimal(uint32_t* value) {
    const std::string_view digits = text_.substr(at_, 4);
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), *value, 16);
    if (digits.size() < 4 || parsed.ptr != digits.data() + 4) return false;
    at_ += 4;
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  int max_depth_;
  JsonHandler* handler_;
  std::vector<char> open_;
  std::string scratch_;
};

}  // namespace

Result<void> scan_json(std::string_view text, int max_depth, JsonHandler* handler) {
  // Outside strings JSON is ASCII, so what is checked here is what stands inside them.
  const size_t ill_formed = find_ill_formed_utf8(text);
  if (ill_formed != std::string_view::npos) {
    return invalid_argument("not valid JSON at byte " + std::to_string(ill_formed) +
                            " (not UTF-8)");
  }
  return Scanner(text, max_depth, handler).run();
}

Error duplicate_key() {
  return {ErrorCode::kInvalidArgument, "JSON has an object with the same key twice"};
}

Json* JsonBuilder::place(Json value) {
  if (open_.empty()) {
    result_ = std::move(value);
    return &result_;
  }
  if (open_.back()->is_array()) {
    open_.back()->push_back(std::move(value));
    return &open_.back()->back();
  }
  *value_ = std::move(value);
  return value_;
}

Result<void> JsonBuilder::begin(char bracket) {
  open_.push_back(place(bracket == '{' ? Json::object() : Json::array()));
  return {};
}

Result<void> JsonBuilder::end() {
  open_.pop_back();
  return {};
}

Result<void> JsonBuilder::key(std::string_view name) {
  const auto [found, is_new] = open_.back()->emplace(std::string(name), nullptr);
  if (!is_new) return std::unexpected(duplicate_key());
  value_ = &*found;
  return {};
}

Result<void> JsonBuilder::text(std::string_view value) {
  place(Json(std::string(value)));
  return {};
}

Result<void> JsonBuilder::scalar(Json value) {
  place(std::move(value));
  return {};
}

}  // namespace sluice
