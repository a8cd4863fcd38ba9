#pragma once

#include <span>
#include <string>
#include <string_view>

namespace sluice::tokenizer {

// The reference library's regular expressions know Unicode 16, Debian's PCRE2 Unicode 14. These are
// the characters between, so that both split text alike. A newer PCRE2 knows them too; that does
// no harm.
struct RecentRange {
  char32_t first;
  char32_t last;
  char category[3];  // general category, for example "Lo"
};

struct CharacterRange {
  char32_t first;
  char32_t last;
};

// In ascending order.
std::span<const RecentRange> recent_ranges();

// Combining marks that came after Unicode 9: the reference's normal forms neither order them nor
// compose across them. In ascending order.
std::span<const CharacterRange> unordered_mark_ranges();
bool is_unordered_mark(char32_t character);

// nullptr if `character` is not in a range.
const RecentRange* find_recent_range(char32_t character);

// True if well-formed `text` has a character of recent_ranges().
bool has_recent_characters(std::string_view text);

// The ranges of a category ("Lo") or of a group of them ("L"), as members of a PCRE2 class.
std::string recent_class_members(std::string_view category);

}  // namespace sluice::tokenizer
