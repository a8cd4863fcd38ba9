#include "base/utf8.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice {
namespace {

constexpr size_t kNone = std::string_view::npos;

std::string repair(std::string_view bytes, Utf8Repair how) {
  std::string text;
  EXPECT_EQ(append_repaired_utf8(bytes, true, how, &text), bytes.size());
  return text;
}

TEST(Utf8, AcceptsEveryCharacterAndRefusesSurrogates) {
  for (char32_t character = 0; character <= 0x10FFFF; ++character) {
    std::string text;
    append_utf8(character, &text);
    const bool is_surrogate = character >= 0xD800 && character <= 0xDFFF;
    ASSERT_EQ(find_ill_formed_utf8(text), is_surrogate ? 0 : kNone)
        << static_cast<uint32_t>(character);
    if (is_surrogate) continue;
    size_t length = 0;
    ASSERT_EQ(decode_utf8_character(text, &length), character);
    ASSERT_EQ(length, text.size());
  }
}

TEST(Utf8, RefusesWhatTheStandardDoes) {
  for (const std::string_view bytes : {"\x80",
                                       "\xBF",
                                       "\xC0\x80",
                                       "\xC1\xBF",
                                       "\xE0\x80\x80",
                                       "\xE0\x9F\xBF",
                                       "\xED\xA0\x80",
                                       "\xED\xBF\xBF",
                                       "\xF0\x80\x80\x80",
                                       "\xF0\x8F\xBF\xBF",
                                       "\xF4\x90\x80\x80",
                                       "\xF5\x80\x80\x80",
                                       "\xF8\x88\x80\x80\x80",
                                       "\xFE",
                                       "\xFF",
                                       "\xC3",
                                       "\xE4\xBD",
                                       "\xF0\x9F\x98",
                                       "\xC3(",
                                       "\xE4\xBD(",
                                       "\xF0\x9F\x98("}) {
    EXPECT_EQ(find_ill_formed_utf8(bytes), 0u) << testing::PrintToString(std::string(bytes));
    const std::string later = "0123456789abcdef" + std::string(bytes);
    EXPECT_EQ(find_ill_formed_utf8(later), 16u) << testing::PrintToString(std::string(bytes));
  }
}

TEST(Utf8, AcceptsNulMarksAndNonCharacters) {
  using namespace std::string_view_literals;
  for (const std::string_view text : {""sv, "\0"sv, "a\0b"sv, "\xEF\xBB\xBF"sv, "\xE2\x80\xAE"sv,
                                      "\xEF\xBF\xBF"sv, "\xF4\x8F\xBF\xBF"sv}) {
    EXPECT_EQ(find_ill_formed_utf8(text), kNone);
  }
}

// The examples of the Unicode Standard, tables 3-8 to 3-11, where x stands for U+FFFD.
TEST(Utf8, ReplacesMaximalSubparts) {
  const std::string x = "\xEF\xBF\xBD";
  const auto how = Utf8Repair::kMaximalSubpart;
  EXPECT_EQ(repair("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", how),
            x + x + x + x + x + x + x + x + "A");
  EXPECT_EQ(repair("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", how),
            x + x + x + x + x + x + x + x + "A");
  EXPECT_EQ(repair("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", how),
            x + x + x + x + x + "A" + x + x + "B");
  EXPECT_EQ(repair("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", how), x + x + x + x + "A");
  EXPECT_EQ(repair("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", Utf8Repair::kEachByte),
            x + x + x + x + x + x + x + x + "A");
}

// All byte strings of up to four bytes over bytes at the borders of the table, cut everywhere.
TEST(Utf8, PiecesRepairToTheSameTextAsTheWhole) {
  const std::string alphabet = "A\x80\x8F\x90\x9F\xA0\xBF\xC1\xC2\xE0\xE4\xED\xF0\xF4\xF5";
  for (const auto how : {Utf8Repair::kMaximalSubpart, Utf8Repair::kEachByte}) {
    for (size_t number = 0; number < 15 * 15 * 15 * 15; ++number) {
      std::string bytes;
      for (size_t rest = number, i = 0; i < 4; ++i, rest /= 15) bytes += alphabet[rest % 15];
      std::string text;
      std::string pending;
      for (const char byte : bytes) {
        pending += byte;
        pending.erase(0, append_repaired_utf8(pending, false, how, &text));
        ASSERT_LE(pending.size(), 3u);
      }
      append_repaired_utf8(pending, true, how, &text);
      ASSERT_EQ(text, repair(bytes, how)) << testing::PrintToString(bytes);
    }
  }
}

}  // namespace
}  // namespace sluice
