#include "sequence/stop_strings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace sluice::sequence {
namespace {

std::shared_ptr<const StopStrings> make(std::vector<std::string> strings) {
  return std::make_shared<const StopStrings>(std::move(strings));
}

TEST(StopFilterTest, NoStringsPassEverything) {
  StopFilter with_null(nullptr, 0);
  EXPECT_EQ(with_null.push("abc"), "abc");
  StopFilter with_none(make({}), 0);
  EXPECT_EQ(with_none.push("abc"), "abc");
  EXPECT_EQ(with_none.finish("d"), "d");
  StopFilter with_empty(make({""}), 0);
  EXPECT_EQ(with_empty.push("abc"), "abc");
  EXPECT_FALSE(with_empty.match());
}

TEST(StopFilterTest, HoldsBackAPossibleBeginningOnly) {
  StopFilter filter(make({"STOP"}), 0);
  EXPECT_EQ(filter.push("abcS"), "abc");
  EXPECT_EQ(filter.push("T"), "");
  EXPECT_EQ(filter.held_bytes(), 2);
  EXPECT_EQ(filter.push("xS"), "STx");
  EXPECT_EQ(filter.push("TO"), "");
  EXPECT_EQ(filter.finish(""), "STO");
  EXPECT_FALSE(filter.match());
}

TEST(StopFilterTest, FindsAStringAcrossTokens) {
  StopFilter filter(make({"x", "STOP"}), 0);
  EXPECT_EQ(filter.push("ab"), "ab");
  EXPECT_EQ(filter.push("cS"), "c");
  EXPECT_EQ(filter.push("TO"), "");
  EXPECT_EQ(filter.push("Pd"), "");
  ASSERT_TRUE(filter.match());
  EXPECT_EQ(filter.match(), 1);
  EXPECT_EQ(filter.push("more"), "");
  EXPECT_EQ(filter.finish("more"), "");
}

TEST(StopFilterTest, OverlappingCandidates) {
  StopFilter filter(make({"aab"}), 0);
  EXPECT_EQ(filter.push("aa"), "");
  EXPECT_EQ(filter.push("a"), "a");  // the last two may still begin a match
  EXPECT_EQ(filter.push("b!"), "");
  ASSERT_TRUE(filter.match());
}

TEST(StopFilterTest, TheStringThatEndsFirstWinsThenTheLongest) {
  StopFilter inner(make({"abc", "b"}), 0);
  EXPECT_EQ(inner.push("abc"), "a");
  EXPECT_EQ(inner.match(), 1);
  StopFilter longest(make({"c", "bc", "abcd"}), 0);
  EXPECT_EQ(longest.push("abcd"), "a");
  EXPECT_EQ(longest.match(), 1);
  StopFilter first_of_equal(make({"bc", "bc"}), 0);
  first_of_equal.push("abc");
  EXPECT_EQ(first_of_equal.match(), 0);
}

TEST(StopFilterTest, StopsWithinMinTokensAreText) {
  StopFilter filter(make({"ab"}), 2);
  EXPECT_EQ(filter.push("abab"), "abab");
  EXPECT_EQ(filter.push("a"), "");
  EXPECT_EQ(filter.push("b"), "");  // ends with the third token
  ASSERT_TRUE(filter.match());
}

TEST(StopFilterTest, TheLastTextIsSearchedToo) {
  StopFilter filter(make({"ab"}), 0);
  EXPECT_EQ(filter.push("xa"), "x");
  EXPECT_EQ(filter.finish("b"), "");
  ASSERT_TRUE(filter.match());
}

// What the filter must do, said in the plainest way.
struct Oracle {
  const std::vector<std::string>& stops;
  const std::vector<std::string>& pieces;  // a token's text each
  int32_t min_tokens;

  struct Match {
    size_t begin, end;
    int32_t string_idx;
  };
  // The match in the text of the first `num_tokens` tokens.
  std::optional<Match> find(size_t num_tokens) const {
    std::string text;
    for (size_t token = 0; token < num_tokens; ++token) {
      for (const char byte : pieces[token]) {
        text += byte;
        std::optional<Match> best;
        for (size_t i = 0; i < stops.size(); ++i) {
          if (stops[i].empty() || !text.ends_with(stops[i])) continue;
          const size_t begin = text.size() - stops[i].size();
          if (!best || begin < best->begin) best = {begin, text.size(), static_cast<int32_t>(i)};
        }
        if (best && static_cast<int32_t>(token) + 1 > min_tokens) return best;
      }
    }
    return std::nullopt;
  }
  // Bytes of `text`, which has no match, that cannot become a part of one any more.
  size_t certain(const std::string& text) const {
    size_t held = 0;
    for (const std::string& stop : stops) {
      for (size_t length = 1; length < stop.size() && length <= text.size(); ++length) {
        if (text.ends_with(stop.substr(0, length))) held = std::max(held, length);
      }
    }
    return text.size() - held;
  }
};

TEST(StopFilterTest, AgreesWithAPlainSearch) {
  int num_matches = 0;
  for (uint32_t seed = 0; seed < 4000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const auto draw = [&](size_t limit) { return random() % limit; };
    const auto draw_text = [&](size_t max_length) {
      std::string text;
      for (size_t i = draw(max_length + 1); i > 0; --i) text += static_cast<char>('a' + draw(2));
      return text;
    };
    std::vector<std::string> stops, pieces;
    for (size_t i = 1 + draw(4); i > 0; --i) stops.push_back(draw_text(2 + draw(9)));
    for (size_t i = draw(25); i > 0; --i) pieces.push_back(draw_text(3));
    const Oracle oracle{stops, pieces, static_cast<int32_t>(draw(3) * draw(10))};

    StopFilter filter(make(stops), oracle.min_tokens);
    std::string text, emitted;
    bool is_stopped = false;
    for (size_t i = 0; i < pieces.size() && !is_stopped; ++i) {
      text += pieces[i];
      emitted += filter.push(pieces[i]);
      const auto expected = oracle.find(i + 1);
      is_stopped = expected.has_value();
      ASSERT_EQ(filter.match().has_value(), is_stopped);
      ASSERT_EQ(emitted, text.substr(0, is_stopped ? expected->begin : oracle.certain(text)));
      if (!is_stopped) continue;
      ++num_matches;
      ASSERT_EQ(filter.match(), expected->string_idx);
    }
    emitted += filter.finish("");
    ASSERT_TRUE(is_stopped || emitted == text);
  }
  EXPECT_GT(num_matches, 1000);
}

TEST(StopFilterTest, TakesLinearTime) {
  // Quadratic behaviour would take minutes here.
  StopFilter filter(make({std::string(256, 'a') + "b", std::string(255, 'a') + "c"}), 0);
  const std::string piece(4, 'a');
  size_t num_emitted = 0;
  for (int i = 0; i < 500'000; ++i) num_emitted += filter.push(piece).size();
  EXPECT_EQ(num_emitted + static_cast<size_t>(filter.held_bytes()), 2'000'000u);
}

}  // namespace
}  // namespace sluice::sequence
