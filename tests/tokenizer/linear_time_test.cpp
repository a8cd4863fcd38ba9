// A megabyte of the worst kinds of text, under a second each.
#include <gtest/gtest.h>

#include <chrono>

#include "tests/tokenizer/golden.h"

namespace sluice::tokenizer {
namespace {

constexpr size_t kTextBytes = 1'000'000;

std::string repeat(std::string_view unit) {
  std::string text;
  while (text.size() + unit.size() <= kTextBytes) text += unit;
  return text;
}

class LinearTimeTest : public testing::TestWithParam<std::string> {};

TEST_P(LinearTimeTest, EncodesAMegabyteInASecond) {
  const auto tokenizer = load_golden(GetParam());
  ASSERT_NE(tokenizer, nullptr);
  for (const std::string_view unit : {"a",
                                      "e",
                                      " ",
                                      "\n",
                                      " \n",
                                      "\t ",
                                      "aя",
                                      "a中я",
                                      "的",
                                      "'",
                                      "1",
                                      "<",
                                      "=",
                                      "a\u0301",
                                      "\u0301",
                                      "\u0323\u0301",
                                      "\u0301\u0323",
                                      "\uAC00",
                                      "👩‍👩‍👧‍👦",
                                      "the quick brown fox ",
                                      "x1",
                                      "aB",
                                      "<tool",
                                      "a.",
                                      "((",
                                      "\xEF\xB7\xBA"}) {
    const std::string text = repeat(unit);
    const auto begin = std::chrono::steady_clock::now();
    const auto token_ids = tokenizer->encode(text, true);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    ASSERT_TRUE(token_ids.has_value()) << unit << ": " << token_ids.error().message;
    EXPECT_LT(seconds.count(), 1.0) << "repeated: " << testing::PrintToString(std::string(unit));
    EXPECT_FALSE(token_ids->empty() && unit.find_first_not_of(" \n\t") != std::string_view::npos);
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, LinearTimeTest, testing::ValuesIn(golden_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace sluice::tokenizer
