#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// Python's string functions on well-formed UTF-8; positions and lengths count characters.
namespace sluice::tokenizer::chat {

size_t count_characters(std::string_view text);
// Characters `from` to before `to`. Requires: 0 <= from <= to <= count_characters(text).
std::string_view characters(std::string_view text, size_t from, size_t to);
std::vector<std::string> split_characters(std::string_view text);

// Bytes at the start or the end that are white space as Python's str.isspace() has it.
size_t leading_space(std::string_view text);
size_t trailing_space(std::string_view text);

// Without the characters of `characters` (white space if absent) at the chosen ends.
std::string_view strip(std::string_view text, std::optional<std::string_view> characters,
                       bool at_start, bool at_end);

// At most `max_splits` cuts, all if negative; without a separator at runs of white space.
std::vector<std::string> split(std::string_view text, std::optional<std::string_view> separator,
                               int64_t max_splits);
std::vector<std::string> split_lines(std::string_view text);
// At most `max_count` times, always if negative. The caller bounds the result's size.
std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t max_count);
size_t count_of(std::string_view text, std::string_view part);

// Simple case mappings: one character stays one character.
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);         // str.title()
std::string title_filter(std::string_view text);  // Jinja's filter: words end at space and brackets
bool is_all(std::string_view text, bool (*belongs)(char32_t));
bool is_letter(char32_t character);
bool is_digit(char32_t character);
bool is_space(char32_t character);

// The non-characters U+FDD0 to U+FDEF, which no text has: with one of them the engine marks what
// must not become a special token. They stay as they are where Python would escape them.
constexpr bool is_mark(char32_t character) {
  return character >= 0xFDD0 && character <= 0xFDEF;
}

// Python's repr of a string.
void append_quoted(std::string_view text, std::string* out);
std::string escape_html(std::string_view text);

}  // namespace sluice::tokenizer::chat
