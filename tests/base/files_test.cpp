// The small rooms that read files somebody else wrote: JSON, mappings, hashes.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/mapped_file.h"
#include "base/sha256.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

std::string json_error(const std::string& text, int max_depth = 64) {
  const auto json = parse_json(text, max_depth);
  EXPECT_FALSE(json.has_value());
  return json ? "" : json.error().message;
}

TEST(ParseJson, ReadsWhatIsGood) {
  const auto json = parse_json(R"({"a": [1, {"b": "]}["}], "c": {"b": null}})");
  ASSERT_TRUE(json.has_value()) << json.error().message;
  EXPECT_EQ((*json)["a"][1]["b"], "]}[");
}

TEST(ParseJson, CountsNestingOutsideStringsOnly) {
  EXPECT_TRUE(parse_json(R"([["[[[[\"[["]])", 2).has_value());
  EXPECT_EQ(json_error("[[[1]]]", 2), "JSON is nested 3 deep, limit is 2");
  EXPECT_EQ(json_error(std::string(1'000'000, '[')), "JSON is nested 1000000 deep, limit is 64");
  EXPECT_NE(json_error(std::string(1'000'000, ']')), "");
}

TEST(ParseJson, RefusesTheSameKeyTwiceInOneObject) {
  EXPECT_NE(json_error(R"({"a": 1, "b": {"a": 2, "a": 3}})").find("same key twice"),
            std::string::npos);
  EXPECT_TRUE(parse_json(R"({"a": {"a": 1}, "b": {"a": 1}})").has_value());
}

TEST(ParseJson, NamesTheByteAndQuotesNothing) {
  EXPECT_EQ(json_error(R"({"secret": nul})"), "not valid JSON at byte 11");
  for (const char* bad : {"", "{", "{\"a\"", "[1,]", "\"\xff\"", "01", "[1] 2", "NaN", "1e999"}) {
    EXPECT_NE(json_error(bad).find("not valid JSON"), std::string::npos) << bad;
  }
}

// Every kind of value and of mistake, cut everywhere and with every byte replaced: taken or refused
// as the JSON library does, but for keys that stand twice.
TEST(ParseJson, AgreesWithTheLibrary) {
  const std::vector<std::string> texts = {
      R"({"a": [1, -2, 3.5e-7, true, false, null], "b": {"c": "\u00e9\n\ud83d\ude00x", "": ""}})",
      R"([-0, 0, 0.0, 18446744073709551615, 18446744073709551616, -9223372036854775808, 1E3, []])",
      "\xEF\xBB\xBF [\"caf\xC3\xA9 \xF0\x9F\x98\x80 a long one\" , {\"k\" :\t1 }\r\n] ",
      R"("\b\f\r\t\/\\\"\u0000")", R"([1e-400, -1.0, 1e308, {}])"};
  const std::string replacements = std::string("\x1F\x80") + " \"\\/:,{}[]-+.019eEntfuD\xC3\xFF";
  std::vector<std::string> changed;
  for (const std::string& text : texts) {
    for (size_t i = 0; i <= text.size(); ++i) {
      changed.push_back(text.substr(0, i));
      for (const char with : replacements) {
        changed.push_back(text);
        changed.back().replace(i, i < text.size() ? 1 : 0, 1, with);
        changed.push_back(text);
        changed.back().insert(i, 1, with);
      }
    }
  }
  int num_good = 0;
  for (const std::string& text : changed) {
    const auto ours = parse_json(text);
    if (!ours && ours.error().message.find("twice") != std::string::npos) continue;
    Json theirs;
    bool is_good = true;
    try {
      theirs = Json::parse(text);
    } catch (const Json::exception&) {
      is_good = false;
    }
    ASSERT_EQ(ours.has_value(), is_good) << testing::PrintToString(text);
    if (is_good) {
      ASSERT_EQ(ours->dump(), theirs.dump()) << testing::PrintToString(text);
    }
    num_good += is_good ? 1 : 0;
  }
  EXPECT_GT(num_good, 500);
}

// FIPS 180-4's examples.
TEST(Sha256Test, KnownDigests) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, PiecesGiveTheDigestOfTheWhole) {
  std::mt19937_64 random(3);  // seed
  for (size_t size = 0; size < 260; ++size) {
    std::string text(size, '\0');
    for (char& byte : text) byte = static_cast<char>(random());
    Sha256 hash;
    for (size_t begin = 0; begin < size;) {
      const size_t count = 1 + random() % 70;
      hash.update(std::string_view(text).substr(begin, count));
      begin += count;
    }
    EXPECT_EQ(hash.finish(), sha256_hex(text)) << size << " bytes";
  }
}

std::vector<std::byte> random_bytes(std::mt19937_64& random, size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// A way to compress that some processors have.
class Sha256WayTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const auto ways = detail::sha256_ways();
    const auto way =
        std::ranges::find(ways, std::string_view(GetParam()), &detail::Sha256Way::name);
    if (way == ways.end()) GTEST_SKIP() << "this processor has no " << GetParam();
    way_ = *way;
  }

  detail::Sha256Way way_{};
};

TEST_P(Sha256WayTest, ManyTextsHaveTheDigestsOfEach) {
  std::mt19937_64 random(4);  // seed
  const std::vector<std::byte> data = random_bytes(random, 700);
  for (size_t round = 0; round < 300; ++round) {
    std::vector<std::span<const std::byte>> texts(random() % 20);
    for (auto& text : texts) {
      const size_t begin = random() % data.size();
      const size_t size = random() % (data.size() - begin);
      text = std::span(data).subspan(begin, random() % 2 == 0 ? size / 64 * 64 : size);
    }
    const std::vector<std::string> digests = detail::sha256_hex_each(way_, texts);
    ASSERT_EQ(digests.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(digests[i], sha256_hex(texts[i])) << "text " << i << " of " << texts.size();
    }
  }
}

TEST_P(Sha256WayTest, CompressesAsThePortableOne) {
  using State = std::array<uint32_t, 8>;
  std::mt19937_64 random(5);  // seed
  const auto& portable = detail::sha256_ways().back();
  ASSERT_STREQ(portable.name, "portable");
  for (const size_t blocks : {1, 2, 33}) {
    std::vector<State> states(way_.lanes);
    std::vector<State> expected;
    std::vector<std::vector<std::byte>> texts;
    std::vector<uint32_t*> places;
    std::vector<const std::byte*> data;
    for (State& state : states) {
      for (uint32_t& word : state) word = static_cast<uint32_t>(random());
      texts.push_back(random_bytes(random, blocks * 64));
      data.push_back(texts.back().data());
      places.push_back(state.data());
      uint32_t* own = expected.emplace_back(state).data();
      portable.compress(&own, &data.back(), blocks);
    }
    way_.compress(places.data(), data.data(), blocks);
    EXPECT_EQ(states, expected) << blocks << " blocks";
  }
}

INSTANTIATE_TEST_SUITE_P(All, Sha256WayTest,
                         ::testing::Values("sha-ni", "avx512", "avx2", "portable"),
                         [](const auto& info) {
                           const std::string_view name = info.param;
                           return name == "sha-ni" ? std::string("sha_ni") : std::string(name);
                         });

TEST(MappedFileTest, ReadsAndRefuses) {
  const fs::path folder =
      fs::temp_directory_path() / ("sluice-mapped-" + std::to_string(::getpid()));
  fs::create_directories(folder);
  std::ofstream(folder / "text") << "hello";
  std::ofstream(folder / "empty") << "";

  const auto text = read_file(folder / "text", 5);
  ASSERT_TRUE(text.has_value());
  EXPECT_EQ(*text, "hello");
  EXPECT_EQ(read_file(folder / "empty", 5).value_or("x"), "");
  const auto large = read_file(folder / "text", 4);
  ASSERT_FALSE(large.has_value());
  EXPECT_EQ(large.error().message, "text: has 5 bytes, limit is 4");
  const auto absent = MappedFile::open(folder / "absent");
  ASSERT_FALSE(absent.has_value());
  EXPECT_EQ(absent.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(absent.error().message, "absent: there is no such file");
  EXPECT_FALSE(MappedFile::open(folder).has_value());
  fs::remove_all(folder);
}

}  // namespace
}  // namespace sluice
