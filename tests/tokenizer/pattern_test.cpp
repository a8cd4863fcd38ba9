#include "tokenizer/pattern.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice::tokenizer {
namespace {

std::vector<std::string> find_all(const std::string& expression, std::string_view text) {
  auto pattern = Pattern::compile(expression);
  EXPECT_TRUE(pattern.has_value()) << expression << ": " << pattern.error().message;
  std::vector<std::string> found;
  if (!pattern) return found;
  Pattern::Matcher matcher(*pattern);
  for (size_t begin = 0; begin < text.size();) {
    const auto match = matcher.find(text, begin);
    EXPECT_TRUE(match.has_value());
    if (!match || match->begin == match->end) break;
    found.emplace_back(text.substr(match->begin, match->end - match->begin));
    begin = match->end;
  }
  return found;
}

using Strings = std::vector<std::string>;

TEST(Pattern, ClassInsideAClassIsAUnion) {
  EXPECT_EQ(find_all("[^(a|[bc])]+", "xxayy(z)cw|b"), Strings({"xx", "yy", "z", "w"}));
  EXPECT_EQ(find_all("[ab[c-e]x-]+", "ace-x, b"), Strings({"ace-x", "b"}));
}

TEST(Pattern, WhiteSpaceIsUnicodes) {
  EXPECT_EQ(find_all("\\s", "\u180e \u00a0x\u0085\u3000\u200b"),
            Strings({" ", "\u00a0", "\u0085", "\u3000"}));
  EXPECT_EQ(find_all("\\S+", "a\u180eb\u3000c"), Strings({"a\u180eb", "c"}));
  EXPECT_EQ(find_all("[^\\S]+", "a\u180eb\u3000 c"), Strings({"\u3000 "}));
}

TEST(Pattern, IgnoresCaseInAGroupOnly) {
  EXPECT_EQ(find_all("(?i:'s|'ll)|x", "'S'LlXx'\u017f"), Strings({"'S", "'Ll", "x", "'\u017f"}));
}

TEST(Pattern, LiteralTextHasNoSpecialCharacters) {
  const std::string text = "a.b*[c]\\{1}|(d)^$-&#\xE2\x96\x81";
  auto pattern = Pattern::literal(text);
  ASSERT_TRUE(pattern.has_value());
  Pattern::Matcher matcher(*pattern);
  const auto match = matcher.find("x" + text + "y", 0);
  ASSERT_TRUE(match.has_value());
  EXPECT_EQ(match->begin, 1u);
  EXPECT_EQ(match->end, 1 + text.size());
}

TEST(Pattern, RefusesWhatTheLibrariesReadDifferently) {
  for (const char* expression :
       {"^a",          "a$",      "a*",       "(?=a)", "[a&&b]",   "[[^a]b]",
        "[[:alpha:]]", "\\w+",    "\\h",      "\\b",   "\\1",      "(a)\\1",
        "\\k<n>",      "(?<n>a)", "(?P<n>a)", "(?#c)", "(?i)a",    "(?R)",
        "(*ACCEPT)",   "\\Qa",    "a{2}?",    "a{2}+", "a{,3}",    "a{1001}",
        "a{x}",        "[]",      "[]a]",     "[b-a]", "[\\P{L}]", "[\\D]",
        "[a-\\s]",     "[\\s-a]", "\\p{Foo}", "\\pL",  "\\x41",    "\\x{110000}",
        "\\x{D800}",   "\\u12",   "\\N",      "\\R",   "\\X",      "\\C",
        "\\K",         "\\G",     "\\A",      "\\z",   "(",        ")",
        "a)",          "(a",      "[a",       "\\",    "*",        "+a",
        "a**",         "\xFF",    ""}) {
    const auto pattern = Pattern::compile(expression);
    ASSERT_FALSE(pattern.has_value()) << expression;
    EXPECT_FALSE(pattern.error().message.empty());
  }
  EXPECT_FALSE(Pattern::compile(std::string(10000, 'a')).has_value());
  EXPECT_FALSE(Pattern::compile(std::string(40, '(') + "a" + std::string(40, ')')).has_value());
  EXPECT_FALSE(Pattern::compile(std::string(40, '[') + "a" + std::string(40, ']')).has_value());
}

// U+1C89 and U+1E4F0 came after Unicode 14.
TEST(Pattern, KnowsRecentCharacters) {
  auto pattern = Pattern::compile("\\p{Lu}|[\\p{N}]|\\P{L}");
  ASSERT_TRUE(pattern.has_value());
  Pattern::Matcher matcher(*pattern);
  matcher.expect_recent_characters(true);
  const std::string text = "a\u1c89b\U0001e4f0c-";
  const size_t begins[] = {1, 5, 10};
  size_t at = 0;
  for (const size_t begin : begins) {
    const auto match = matcher.find(text, at);
    ASSERT_TRUE(match.has_value());
    EXPECT_EQ(match->begin, begin);
    at = match->end;
  }
}

TEST(Pattern, EndsABlowUpWithAnError) {
  auto pattern = Pattern::compile("(a|aa)+[bc]");
  ASSERT_TRUE(pattern.has_value());
  Pattern::Matcher matcher(*pattern);
  EXPECT_FALSE(matcher.find(std::string(500, 'a'), 0).has_value());
  EXPECT_TRUE(matcher.find("aab", 0).has_value());
}

}  // namespace
}  // namespace sluice::tokenizer
