#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/json.h"

namespace sluice {
namespace {

TEST(JsonMembers, KeepTheirOrderAndTheirText) {
  const std::string text =
      "\xEF\xBB\xBF {\"b\" : [1, {\"z\":\"]}\\\"\"}] ,\"a\":  "
      "\"x:,\\\\\",\n\"\\u0063\":-1.5e3,\"d\":true , "
      "\"e\":{}}";
  const auto members = parse_json_members(text);
  ASSERT_TRUE(members.has_value()) << members.error().message;
  ASSERT_EQ(members->size(), 5u);
  EXPECT_EQ((*members)[0].name, "b");
  EXPECT_EQ((*members)[0].text, "[1, {\"z\":\"]}\\\"\"}]");
  EXPECT_EQ((*members)[1].name, "a");
  EXPECT_EQ((*members)[1].value, "x:,\\");
  EXPECT_EQ((*members)[1].text, "\"x:,\\\\\"");
  EXPECT_EQ((*members)[2].name, "c");
  EXPECT_EQ((*members)[2].text, "-1.5e3");
  EXPECT_EQ((*members)[3].text, "true");
  EXPECT_EQ((*members)[4].text, "{}");
  EXPECT_TRUE(parse_json_members(" { } ")->empty());
}

TEST(JsonMembers, RefuseWhatIsNoObject) {
  for (const char* text : {"", "[]", "1", "\"{}\"", "{", "{\"a\":1,\"a\":2}", "{\"a\" 1}"}) {
    EXPECT_FALSE(parse_json_members(text).has_value()) << text;
  }
}

// Random values: each member's text reads back as its value.
Json random_value(std::mt19937_64& random, int depth) {
  switch (random() % (depth > 3 ? 4 : 6)) {
    case 0:
      return nullptr;
    case 1:
      return static_cast<int64_t>(random());
    case 2: {
      std::string text;
      for (uint64_t i = random() % 6; i > 0; --i) text += "\"\\{}[],: a\n"[random() % 11];
      return text;
    }
    case 3:
      return (random() & 1) == 1;
    case 4: {
      Json list = Json::array();
      for (uint64_t i = random() % 4; i > 0; --i) list.push_back(random_value(random, depth + 1));
      return list;
    }
    default: {
      Json object = Json::object();
      for (uint64_t i = random() % 4; i > 0; --i) {
        object[std::to_string(random() % 100) + "\""] = random_value(random, depth + 1);
      }
      return object;
    }
  }
}

TEST(JsonMembers, TextsReadBackAsValues) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    Json object = Json::object();
    for (uint64_t i = random() % 6; i > 0; --i) {
      object["k\\" + std::to_string(i)] = random_value(random, 0);
    }
    const std::string text = object.dump(random() % 2 == 0 ? -1 : 2);
    const auto members = parse_json_members(text);
    ASSERT_TRUE(members.has_value()) << text;
    ASSERT_EQ(members->size(), object.size()) << text;
    for (const JsonMember& member : *members) {
      EXPECT_EQ(member.value, object[member.name]) << text;
      EXPECT_EQ(Json::parse(member.text, nullptr, false), member.value) << text;
    }
  }
}

}  // namespace
}  // namespace sluice
