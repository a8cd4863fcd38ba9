#include "tokenizer/unicode_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/utf8.h"
#include "tokenizer/recent_characters.h"

namespace sluice::tokenizer {
namespace {

// Characters whose decomposition is younger than the reference's tables, which leave them alone.
bool is_left_alone(char32_t character) {
  return character == 0x32FF || (character >= 0xA7F2 && character <= 0xA7F4) ||
         character == 0xAB69 || (character >= 0x10781 && character <= 0x107BA) ||
         character == 0x11938 || character == 0x1F16C ||
         (character >= 0x1FBF0 && character <= 0x1FBF9) ||
         (character >= 0x1E030 && character <= 0x1E06D);
}

// Below U+0300 all text is in NFC, and only ASCII is in the other forms.
constexpr char32_t kFirstCombiningMark = 0x300;
constexpr char32_t kFirstNonAscii = 0x80;

int combining_class(utf8proc_int32_t character) {
  const int known = utf8proc_get_property(character)->combining_class;
  return known != 0 && is_unordered_mark(static_cast<char32_t>(character)) ? 0 : known;
}

bool is_already_in_form(std::string_view text, UnicodeForm form) {
  const bool is_nfc = form.is_composed && !form.is_compatibility;
  const char32_t limit = is_nfc ? kFirstCombiningMark : kFirstNonAscii;
  while (!text.empty()) {
    size_t length = 0;
    if (decode_utf8_character(text, &length) >= limit) return false;
    text.remove_prefix(length);
  }
  return true;
}

void append_decomposed(char32_t character, utf8proc_option_t options,
                       std::vector<utf8proc_int32_t>* out) {
  if (is_left_alone(character)) {
    out->push_back(static_cast<utf8proc_int32_t>(character));
    return;
  }
  constexpr utf8proc_ssize_t kMaxDecomposition = 32;  // U+FDFA becomes 18 characters
  utf8proc_int32_t buffer[kMaxDecomposition];
  int boundary = 0;
  const utf8proc_ssize_t count = utf8proc_decompose_char(
      static_cast<utf8proc_int32_t>(character), buffer, kMaxDecomposition, options, &boundary);
  out->insert(out->end(), buffer, buffer + std::min(count, kMaxDecomposition));
}

// Sorts each run of combining marks by class, keeping the order within a class.
void order_marks(std::vector<utf8proc_int32_t>* characters) {
  auto run = characters->begin();
  while (run != characters->end()) {
    if (combining_class(*run) == 0) {
      ++run;
      continue;
    }
    const auto end = std::find_if(run, characters->end(), [](utf8proc_int32_t character) {
      return combining_class(character) == 0;
    });
    std::stable_sort(run, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return combining_class(a) < combining_class(b);
    });
    run = end;
  }
}

// The reference does not compose across these; U+11930 is the second half of a young composite.
bool separates_compositions(utf8proc_int32_t character) {
  return character == 0x11930 || (utf8proc_get_property(character)->combining_class != 0 &&
                                  is_unordered_mark(static_cast<char32_t>(character)));
}

void compose(std::vector<utf8proc_int32_t>* characters) {
  constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  auto written = characters->begin();
  for (auto begin = characters->begin(); begin != characters->end();) {
    const auto end = std::find_if(begin + 1, characters->end(), separates_compositions);
    const utf8proc_ssize_t count =
        utf8proc_normalize_utf32(&*begin, static_cast<utf8proc_ssize_t>(end - begin), kOptions);
    written = std::copy(begin, begin + count, written);
    begin = end;
  }
  characters->erase(written, characters->end());
}

utf8proc_category_t category(char32_t character) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(character));
}

}  // namespace

std::string to_unicode_form(std::string_view text, UnicodeForm form) {
  if (is_already_in_form(text, form)) return std::string(text);
  const auto decompose = static_cast<utf8proc_option_t>(
      UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (form.is_compatibility ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> characters;
  characters.reserve(text.size());
  while (!text.empty()) {
    size_t length = 0;
    append_decomposed(decode_utf8_character(text, &length), decompose, &characters);
    text.remove_prefix(length);
  }
  order_marks(&characters);
  if (form.is_composed) compose(&characters);
  std::string result;
  result.reserve(characters.size() * 2);
  for (const utf8proc_int32_t character : characters) {
    append_utf8(static_cast<char32_t>(character), &result);
  }
  return result;
}

bool is_white_space(char32_t character) {
  return (character >= 0x9 && character <= 0xD) || character == 0x20 || character == 0x85 ||
         character == 0xA0 || character == 0x1680 || (character >= 0x2000 && character <= 0x200A) ||
         character == 0x2028 || character == 0x2029 || character == 0x202F || character == 0x205F ||
         character == 0x3000;
}

bool is_word_character(char32_t character) {
  switch (category(character)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:  // the joiners, and circled and squared letters
      return character == 0x200C || character == 0x200D ||
             (character >= 0x24B6 && character <= 0x24E9) ||
             (character >= 0x1F130 && character <= 0x1F149) ||
             (character >= 0x1F150 && character <= 0x1F169) ||
             (character >= 0x1F170 && character <= 0x1F189);
  }
}

bool is_numeric(char32_t character) {
  const utf8proc_category_t kind = category(character);
  if (kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL ||
      kind == UTF8PROC_CATEGORY_NO) {
    return true;
  }
  const RecentRange* recent = find_recent_range(character);
  if (recent != nullptr) return recent->category[0] == 'N';
  // New in Unicode 17.
  return (character >= 0x11DE0 && character <= 0x11DE9) ||
         (character >= 0x16FF4 && character <= 0x16FF6);
}

}  // namespace sluice::tokenizer
