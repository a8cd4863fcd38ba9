#include "tokenizer/chat/text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/utf8.h"

namespace sluice::tokenizer::chat {
namespace {

// Offset of the last character's first byte. Requires: not empty.
size_t last_character(std::string_view text) {
  size_t idx = text.size() - 1;
  while (idx > 0 && (static_cast<uint8_t>(text[idx]) & 0xC0) == 0x80) --idx;
  return idx;
}

char32_t decode(std::string_view text) {
  size_t length = 0;
  return decode_utf8_character(text, &length);
}

template <typename Map>
std::string map_characters(std::string_view text, Map map) {
  std::string mapped;
  mapped.reserve(text.size());
  while (!text.empty()) {
    size_t length = 0;
    const char32_t character = decode_utf8_character(text, &length);
    text.remove_prefix(length);
    append_utf8(map(character), &mapped);
  }
  return mapped;
}

char32_t to_upper(char32_t character) {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(character)));
}
char32_t to_lower(char32_t character) {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(character)));
}

bool is_printable(char32_t character) {
  if (character == ' ') return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(character))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

}  // namespace

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_digit(char32_t character) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(character)) == UTF8PROC_CATEGORY_ND;
}

bool is_letter(char32_t character) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(character));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool is_all(std::string_view text, bool (*belongs)(char32_t)) {
  if (text.empty()) return false;
  while (!text.empty()) {
    size_t length = 0;
    if (!belongs(decode_utf8_character(text, &length))) return false;
    text.remove_prefix(length);
  }
  return true;
}

size_t count_characters(std::string_view text) {
  return static_cast<size_t>(std::ranges::count_if(
      text, [](char byte) { return (static_cast<uint8_t>(byte) & 0xC0) != 0x80; }));
}

std::string_view characters(std::string_view text, size_t from, size_t to) {
  const auto skip = [&](size_t at, size_t count) {
    for (; count > 0; --count) {
      ++at;
      while (at < text.size() && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) ++at;
    }
    return at;
  };
  const size_t start = skip(0, from);
  return text.substr(start, skip(start, to - from) - start);
}

std::vector<std::string> split_characters(std::string_view text) {
  std::vector<std::string> characters;
  while (!text.empty()) {
    size_t length = 0;
    decode_utf8_character(text, &length);
    characters.emplace_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return characters;
}

size_t leading_space(std::string_view text) {
  size_t idx = 0;
  while (idx < text.size()) {
    size_t length = 0;
    if (!is_space(decode_utf8_character(text.substr(idx), &length))) break;
    idx += length;
  }
  return idx;
}

size_t trailing_space(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t last = last_character(text.substr(0, end));
    if (!is_space(decode(text.substr(last)))) break;
    end = last;
  }
  return text.size() - end;
}

std::string_view strip(std::string_view text, std::optional<std::string_view> characters,
                       bool at_start, bool at_end) {
  if (!characters) {
    if (at_start) text.remove_prefix(leading_space(text));
    if (at_end) text.remove_suffix(trailing_space(text));
    return text;
  }
  // A whole character is in the set if its bytes are: no character's bytes are within another's.
  const auto in_set = [&](std::string_view character) {
    return characters->find(character) != std::string_view::npos;
  };
  while (at_start && !text.empty()) {
    size_t length = 0;
    decode_utf8_character(text, &length);
    if (!in_set(text.substr(0, length))) break;
    text.remove_prefix(length);
  }
  while (at_end && !text.empty()) {
    const size_t last = last_character(text);
    if (!in_set(text.substr(last))) break;
    text.remove_suffix(text.size() - last);
  }
  return text;
}

std::vector<std::string> split(std::string_view text, std::optional<std::string_view> separator,
                               int64_t max_splits) {
  std::vector<std::string> parts;
  const auto may_cut = [&] {
    return max_splits < 0 || static_cast<int64_t>(parts.size()) < max_splits;
  };
  if (separator) {
    size_t at;
    while (may_cut() && (at = text.find(*separator)) != std::string_view::npos) {
      parts.emplace_back(text.substr(0, at));
      text.remove_prefix(at + separator->size());
    }
    parts.emplace_back(text);
    return parts;
  }
  text.remove_prefix(leading_space(text));
  while (!text.empty()) {
    if (!may_cut()) {
      parts.emplace_back(text);
      break;
    }
    size_t end = 0;
    while (end < text.size()) {
      size_t length = 0;
      if (is_space(decode_utf8_character(text.substr(end), &length))) break;
      end += length;
    }
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
    text.remove_prefix(leading_space(text));
  }
  return parts;
}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  size_t start = 0;
  size_t idx = 0;
  while (idx < text.size()) {
    size_t length = 0;
    const char32_t c = decode_utf8_character(text.substr(idx), &length);
    const bool is_end = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                        c == 0x2028 || c == 0x2029;
    if (is_end) {
      lines.emplace_back(text.substr(start, idx - start));
      const bool is_pair = c == '\r' && idx + 1 < text.size() && text[idx + 1] == '\n';
      start = idx + length + (is_pair ? 1 : 0);
      idx = start;
    } else {
      idx += length;
    }
  }
  if (start < text.size()) lines.emplace_back(text.substr(start));
  return lines;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t max_count) {
  std::string replaced;
  const auto may_replace = [&](int64_t done) { return max_count < 0 || done < max_count; };
  int64_t done = 0;
  if (from.empty()) {  // before each character and at the end
    bool is_end = false;
    while (!is_end) {
      if (may_replace(done++)) replaced += to;
      is_end = text.empty();
      if (is_end) break;
      size_t length = 0;
      decode_utf8_character(text, &length);
      replaced += text.substr(0, length);
      text.remove_prefix(length);
    }
    return replaced;
  }
  size_t at;
  while (may_replace(done) && (at = text.find(from)) != std::string_view::npos) {
    replaced += text.substr(0, at);
    replaced += to;
    text.remove_prefix(at + from.size());
    ++done;
  }
  replaced += text;
  return replaced;
}

size_t count_of(std::string_view text, std::string_view part) {
  if (part.empty()) return count_characters(text) + 1;
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; at += part.size()) {
    ++count;
  }
  return count;
}

std::string upper(std::string_view text) {
  return map_characters(text, to_upper);
}
std::string lower(std::string_view text) {
  return map_characters(text, to_lower);
}

std::string capitalize(std::string_view text) {
  bool is_first = true;
  return map_characters(text, [&](char32_t character) {
    return std::exchange(is_first, false) ? to_upper(character) : to_lower(character);
  });
}

std::string title(std::string_view text) {
  bool in_word = false;
  return map_characters(text, [&](char32_t character) {
    const bool was_in_word = in_word;
    in_word = is_letter(character);
    return was_in_word ? to_lower(character) : to_upper(character);
  });
}

std::string title_filter(std::string_view text) {
  bool in_word = false;
  return map_characters(text, [&](char32_t character) {
    const bool ends_word = is_space(character) || character == '-' || character == '(' ||
                           character == '{' || character == '[' || character == '<';
    const bool was_in_word = in_word;
    in_word = !ends_word;
    return was_in_word ? to_lower(character) : to_upper(character);
  });
}

void append_quoted(std::string_view text, std::string* out) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  *out += quote;
  while (!text.empty()) {
    size_t length = 0;
    const char32_t character = decode_utf8_character(text, &length);
    const std::string_view bytes = text.substr(0, length);
    text.remove_prefix(length);
    if (character == '\n') {
      *out += "\\n";
    } else if (character == '\r') {
      *out += "\\r";
    } else if (character == '\t') {
      *out += "\\t";
    } else if (character == '\\' || character == static_cast<char32_t>(quote)) {
      *out += '\\';
      *out += static_cast<char>(character);
    } else if (is_printable(character) || is_mark(character)) {
      *out += bytes;
    } else {
      char buffer[16];
      const char* format = character < 0x100     ? "\\x%02x"
                           : character < 0x10000 ? "\\u%04x"
                                                 : "\\U%08x";
      std::snprintf(buffer, sizeof(buffer), format, static_cast<unsigned>(character));
      *out += buffer;
    }
  }
  *out += quote;
}

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      case '"':
        escaped += "&#34;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

}  // namespace sluice::tokenizer::chat
