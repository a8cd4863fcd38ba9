// A megabyte of the worst kinds of text, under a second each; a slow machine may take longer, but
// ten times as long for ten times as much.
#include <gtest/gtest.h>

#include <ctime>

#include "tests/tokenizer/golden.h"

namespace sluice::tokenizer {
namespace {

constexpr size_t kTextBytes = 1'000'000;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kMaxSeconds = 20;  // instrumented code is slower, but not quadratic
#else
constexpr double kMaxSeconds = 1;
#endif

// Quadratic time would be 10.
constexpr double kMaxGrowth = 3;

// Of this thread's own work, whatever else the machine does.
double seconds_now() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

std::string repeat(std::string_view unit, size_t num_bytes) {
  std::string text;
  while (text.size() + unit.size() <= num_bytes) text += unit;
  return text;
}

class LinearTimeTest : public testing::TestWithParam<std::string> {
 protected:
  // One letter, spaces, alternating scripts, marks, letters that normalization makes long, and what
  // special cases look at.
  static std::vector<std::string_view> units() {
    std::vector<std::string_view> units = {"a", " ", "aя中", "\u0323\u0301", "\uFDFA"};
    for (const std::string_view more :
         {"e", "\n", " \n", "的", "'", "1", "<tool", "\u0301\u0323", "👩‍👩‍👧‍👦",
          "the quick brown fox ", "x1", "a.", "((", "="}) {
      units.push_back(more);
    }
    return units;
  }
};

// Of encoding the unit over and over.
double seconds_for(const Tokenizer& tokenizer, std::string_view unit, size_t num_bytes) {
  const std::string text = repeat(unit, num_bytes);
  const double begin = seconds_now();
  const auto token_ids = tokenizer.encode(text, true);
  const double seconds = seconds_now() - begin;
  EXPECT_TRUE(token_ids.has_value()) << unit << ": " << token_ids.error().message;
  return seconds;
}

TEST_P(LinearTimeTest, EncodesAMegabyteInASecond) {
  const auto tokenizer = load_golden(GetParam());
  ASSERT_NE(tokenizer, nullptr);
  for (const std::string_view unit : units()) {
    const double seconds = seconds_for(*tokenizer, unit, kTextBytes);
    if (seconds < kMaxSeconds) continue;
    const double tenth = seconds_for(*tokenizer, unit, kTextBytes / 10);
    EXPECT_LT(seconds, kMaxGrowth * 10 * tenth)
        << "repeated: " << testing::PrintToString(std::string(unit)) << ", a tenth: " << tenth;
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, LinearTimeTest, testing::ValuesIn(golden_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace sluice::tokenizer
