// The small rooms that read files somebody else wrote: JSON, mappings, hashes.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
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

TEST(Sha256Test, APairGivesTheDigestsOfEach) {
  std::mt19937_64 random(4);  // seed
  std::vector<std::byte> data(700);
  for (std::byte& byte : data) byte = static_cast<std::byte>(random());
  const std::span<const std::byte> bytes(data);
  for (size_t size = 0; size < 260; ++size) {
    for (const size_t other : {size_t{0}, size_t{63}, size_t{64}, size, size_t{400}}) {
      const auto [x, y] = sha256_hex_pair(bytes.first(size), bytes.last(other));
      EXPECT_EQ(x, sha256_hex(bytes.first(size))) << size << " bytes beside " << other;
      EXPECT_EQ(y, sha256_hex(bytes.last(other))) << other << " bytes beside " << size;
    }
  }
}

TEST(Sha256Test, TheProcessorsInstructionsAgreeWithThePortableCode) {
  const auto native = detail::sha256_compress_native();
  if (native == nullptr) GTEST_SKIP() << "this processor has no SHA instructions";
  std::mt19937_64 random(5);  // seed
  std::vector<std::byte> data(64 * 33);
  for (std::byte& byte : data) byte = static_cast<std::byte>(random());
  std::vector<uint32_t> expected(8, 0x12345678);
  std::vector<uint32_t> state = expected;
  detail::sha256_compress_portable(expected.data(), data.data(), 33);
  native(state.data(), data.data(), 33);
  EXPECT_EQ(state, expected);
}

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
