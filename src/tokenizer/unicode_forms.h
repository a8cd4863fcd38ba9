#pragma once

#include <string>
#include <string_view>

namespace sluice::tokenizer {

struct UnicodeForm {
  bool is_composed = true;        // NFC and NFKC
  bool is_compatibility = false;  // NFKC and NFKD
};

// `text` (well-formed UTF-8) in a Unicode normal form. O(n log n) for any text; utf8proc's own
// function takes O(n^2) for many combining marks in a row.
// Source: Unicode Standard Annex #15.
std::string to_unicode_form(std::string_view text, UnicodeForm form);

// Unicode's White_Space, and what a word is made of (letters, marks, digits, connectors).
bool is_white_space(char32_t character);
bool is_word_character(char32_t character);
// Nd, Nl and No.
bool is_numeric(char32_t character);

}  // namespace sluice::tokenizer
