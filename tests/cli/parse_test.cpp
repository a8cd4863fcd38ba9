#include "cli/parse.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cli/address.h"
#include "cli/format.h"
#include "cli/statistics.h"

namespace sluice::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

TEST(ParseTest, TakesWholeNumbersToTheirBorders) {
  EXPECT_EQ(*parse_int64("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(*parse_int64("-9223372036854775808"), INT64_MIN);
  EXPECT_EQ(*parse_int64("+7"), 7);
  EXPECT_EQ(*parse_uint64("18446744073709551615"), UINT64_MAX);
}

TEST(ParseTest, RefusesWhatIsNotAWholeNumber) {
  for (const char* text :
       {"", " ", "1 ", " 1", "1.0", "1e3", "0x10", "abc", "--1", "+-1", "-+1", "++1", "-", "+"}) {
    EXPECT_FALSE(parse_int64(text)) << text;
  }
  // CLI11 would clamp this one in silence.
  EXPECT_NE(parse_int64("9223372036854775808").error().message.find("out of range"),
            std::string::npos);
  EXPECT_FALSE(parse_uint64("-1"));
}

TEST(ParseTest, LeavesNanAndInfinityToTheValidator) {
  EXPECT_TRUE(std::isnan(*parse_double("nan")));
  EXPECT_TRUE(std::isinf(*parse_double("-inf")));
  EXPECT_EQ(*parse_double("1e-3"), 1e-3);
  EXPECT_FALSE(parse_double("1e999"));
  EXPECT_FALSE(parse_double("1,5"));
  EXPECT_FALSE(parse_double("+-1"));
  EXPECT_FALSE(parse_double(""));
}

TEST(ParseTest, ReadsLists) {
  EXPECT_EQ(*parse_int64_list("1,2, 3"), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_TRUE(parse_int64_list("")->empty());
  EXPECT_FALSE(parse_int64_list("1,,2"));
  EXPECT_FALSE(parse_int64_list("1,2,"));
  EXPECT_NE(parse_int64_list("1,x").error().message.find("item 1"), std::string::npos);
}

TEST(ParseTest, ReadsLogitBias) {
  const auto biases = parse_logit_bias("5=-1.5,7=2");
  ASSERT_TRUE(biases);
  ASSERT_EQ(biases->size(), 2);
  EXPECT_EQ((*biases)[0].token_id, 5);
  EXPECT_EQ((*biases)[0].bias, -1.5);
  EXPECT_FALSE(parse_logit_bias("5"));
  EXPECT_FALSE(parse_logit_bias("5="));
}

TEST(ParseTest, ReadsDurations) {
  EXPECT_EQ(*parse_duration("30"), seconds(30));
  EXPECT_EQ(*parse_duration("1.5s"), milliseconds(1500));
  EXPECT_EQ(*parse_duration("250ms"), milliseconds(250));
  EXPECT_EQ(*parse_duration("2m"), minutes(2));
  for (const char* text : {"", "s", "-1s", "1d", "nan", "inf", "1e300h"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(ParseTest, ReadsSizes) {
  EXPECT_EQ(*parse_bytes("1048576"), 1 << 20);
  EXPECT_EQ(*parse_bytes("2GiB"), int64_t{2} << 30);
  EXPECT_EQ(*parse_bytes("2GB"), 2'000'000'000);
  EXPECT_FALSE(parse_bytes("2GX"));
  EXPECT_FALSE(parse_bytes("99999999TiB"));
}

TEST(ParseTest, FindsTheNearestName) {
  const std::vector<std::string> known{"--max-tokens", "--min-tokens", "--seed"};
  EXPECT_EQ(nearest("--max-token", known), "--max-tokens");
  EXPECT_EQ(nearest("--sead", known), "--seed");
  EXPECT_EQ(nearest("--entirely-different", known), "");
}

TEST(ParseTest, QuotesWhatATerminalMustNotSee) {
  EXPECT_EQ(quote("a\x1b[1m\n"), "\"a\\x1b[1m\\x0a\"");
  EXPECT_EQ(quote(std::string(100, 'a')), "\"" + std::string(64, 'a') + "...\"");
}

TEST(AddressTest, ReadsHostAndPort) {
  EXPECT_EQ(parse_host_port("127.0.0.1:50051")->port, 50051);
  EXPECT_EQ(parse_host_port("[::1]:1")->host, "[::1]");
  for (const char* text : {"", ":1", "localhost", "::1:5", "h:65536", "h:-1", "h:", "h:1x"}) {
    EXPECT_FALSE(parse_host_port(text)) << text;
  }
}

TEST(AddressTest, KnowsWhatOtherMachinesCannotReach) {
  for (const char* host : {"127.0.0.1", "127.9.9.9", "localhost", "[::1]"}) {
    EXPECT_TRUE(is_loopback(host)) << host;
  }
  for (const char* host : {"0.0.0.0", "[::]", "10.0.0.1", "example.org", "127.0.0.1.evil.org"}) {
    EXPECT_FALSE(is_loopback(host)) << host;
  }
}

TEST(FormatTest, ShowsThreeDigits) {
  EXPECT_EQ(format_bytes(13'480'000'000), "13.5 GB");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(999'600), "1.00 MB");
  EXPECT_EQ(format_milliseconds(0.0421), "0.042 ms");
  EXPECT_EQ(format_milliseconds(1234.5), "1234 ms");
  EXPECT_EQ(format_count(-1234567), "-1,234,567");
  EXPECT_EQ(format_rate(41.27), "41.3");
  EXPECT_EQ(format_rate(1234.4), "1,234");
}

TEST(FormatTest, DefaultsCanBeTypedBack) {
  for (const int64_t bytes : {int64_t{1}, int64_t{1} << 20, int64_t{3} << 30, int64_t{1000}}) {
    EXPECT_EQ(*parse_bytes(format_binary_bytes(bytes)), bytes);
  }
  for (const std::chrono::nanoseconds time :
       {std::chrono::nanoseconds(milliseconds(1500)), std::chrono::nanoseconds(minutes(10)),
        std::chrono::nanoseconds(0)}) {
    EXPECT_EQ(*parse_duration(format_duration(time)), time);
  }
}

TEST(FormatTest, WrapsAtTheWidth) {
  EXPECT_EQ(two_columns("  --a", "one two three", 8, 16), "  --a   one two\n        three\n");
}

TEST(FormatTest, AlignsNumbersToTheRight) {
  EXPECT_EQ(table({{"name", "n"}, {"a", "1"}, {"bb", "10"}}), "name   n\na      1\nbb    10\n");
}

TEST(StatisticsTest, InterpolatesBetweenSamples) {
  EXPECT_EQ(quantile({4, 1, 3, 2}, 0.5), 2.5);
  EXPECT_EQ(quantile({1, 2}, 0), 1);
  EXPECT_EQ(quantile({1, 2}, 1), 2);
  EXPECT_EQ(quantile({}, 0.5), 0);
  EXPECT_DOUBLE_EQ(quantile({0, 100}, 0.99), 99);
  EXPECT_EQ(spread({3, 1, 2}).median, 2);
  EXPECT_EQ(spread({3, 1, 2}).max, 3);
}

}  // namespace
}  // namespace sluice::cli
