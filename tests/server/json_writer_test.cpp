#include "server/http/json_writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "base/json.h"

namespace sluice::server {
namespace {

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(text, out);
  return out;
}

template <typename Float>
std::string json_number(Float value) {
  std::string out;
  append_json_number(value, out);
  return out;
}

TEST(JsonWriter, EscapesWhatMustBe) {
  EXPECT_EQ(json_string(""), "\"\"");
  EXPECT_EQ(json_string("a\"b\\c\nd\re\tf"), R"("a\"b\\c\nd\re\tf")");
  EXPECT_EQ(json_string(std::string_view("\0\x1f\x7f", 3)), R"("\u0000\u001f\u007f")");
  EXPECT_EQ(json_string("日本 é 🙂"), "\"日本 é 🙂\"");
}

TEST(JsonWriter, EveryByteMakesAStringThatReadsBack) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text = std::string("x") + static_cast<char>(byte) + "y";
    const auto read = parse_json(json_string(text));
    ASSERT_TRUE(read) << byte;
    const auto back = read->get<std::string>();
    EXPECT_EQ(back, byte < 128 ? text : "x\xEF\xBF\xBDy") << byte;
  }
}

TEST(JsonWriter, NumbersReadBackExactly) {
  EXPECT_EQ(json_number(-0.5F), "-0.5");
  EXPECT_EQ(json_number(0.1F), "0.1");
  EXPECT_EQ(json_number(0.1), "0.1");
  EXPECT_EQ(json_number(std::nan("")), "null");
  for (const float value : {1e-30F, -123456.78F, std::numeric_limits<float>::denorm_min()}) {
    EXPECT_EQ(parse_json(json_number(value))->get<float>(), value);
  }
  EXPECT_EQ(parse_json(json_number(-std::numeric_limits<float>::infinity()))->get<float>(),
            std::numeric_limits<float>::lowest());
}

}  // namespace
}  // namespace sluice::server
