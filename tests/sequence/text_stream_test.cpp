#include "sequence/text_stream.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::sequence {
namespace {

// Ids 0..255 are bytes, 256 is special and spelled "<s>", 257 is " x" that loses its space at the
// start of a text.
class ByteTokenizer final : public tokenizer::Tokenizer {
 public:
  static constexpr int32_t kSpecial = 256;
  static constexpr int32_t kWord = 257;

  Result<std::vector<int32_t>> encode(std::string_view text, bool) const override {
    std::vector<int32_t> ids;
    for (const char byte : text) ids.push_back(static_cast<uint8_t>(byte));
    return ids;
  }
  Result<std::vector<int32_t>> encode_with_special_tokens(std::string_view text,
                                                          std::span<const size_t>) const override {
    return encode(text, false);
  }
  std::vector<size_t> find_special_tokens(std::string_view) const override { return {}; }
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const override {
    return tokenizer::decode_tokens(*this, ids, skip_special_tokens);
  }
  std::string token_bytes(int32_t id, bool at_start) const override {
    if (id == kSpecial) return "<s>";
    if (id == kWord) return at_start ? "x" : " x";
    return std::string(1, static_cast<char>(id));
  }
  bool is_special(int32_t id) const override { return id == kSpecial; }
  bool stays_at_start(int32_t id) const override { return id == kSpecial; }
  int32_t vocabulary_size() const override { return 258; }
};

std::shared_ptr<const StopStrings> make(std::vector<std::string> strings) {
  return std::make_shared<const StopStrings>(std::move(strings));
}

std::string push_bytes(TextStream& stream, std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += stream.push(static_cast<uint8_t>(byte));
  return text;
}

TEST(TextStreamTest, HoldsUnfinishedCharacters) {
  const ByteTokenizer tokenizer;
  TextStream stream(tokenizer, true, nullptr, 0);
  EXPECT_EQ(stream.push(0xE4), "");
  EXPECT_EQ(stream.push(0xBA), "");
  EXPECT_EQ(stream.push(0xBA), "人");
  EXPECT_EQ(stream.push(0xE5), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

TEST(TextStreamTest, FindsAStopStringOfWideCharacters) {
  const ByteTokenizer tokenizer;
  TextStream stream(tokenizer, true, make({"。结束"}), 0);
  EXPECT_EQ(push_bytes(stream, "好。好。结束了"), "好。好");
  ASSERT_TRUE(stream.match());
  EXPECT_EQ(stream.matched_string(), "。结束");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStreamTest, ContinuesAPromptOrBeginsAText) {
  const ByteTokenizer tokenizer;
  TextStream continues(tokenizer, true, nullptr, 0);
  EXPECT_EQ(continues.push(ByteTokenizer::kWord), " x");
  TextStream begins(tokenizer, true, nullptr, 0, /*at_start=*/true);
  EXPECT_EQ(begins.push(ByteTokenizer::kWord), "x");
  EXPECT_EQ(begins.push(ByteTokenizer::kWord), " x");
}

TEST(TextStreamTest, SpecialTokensCountButHaveNoText) {
  const ByteTokenizer tokenizer;
  TextStream skipping(tokenizer, true, make({"<s>"}), 0);
  EXPECT_EQ(skipping.push(ByteTokenizer::kSpecial), "");
  EXPECT_FALSE(skipping.match());
  TextStream showing(tokenizer, false, make({"<s>"}), 0);
  EXPECT_EQ(showing.push(ByteTokenizer::kSpecial), "");
  EXPECT_TRUE(showing.match());
}

// Random bytes, well-formed and not: the emitted text is the decoded text up to the first stop
// string, and at no time more than that.
TEST(TextStreamTest, EmitsTheDecodedTextUpToTheStop) {
  const ByteTokenizer tokenizer;
  const std::vector<std::string> atoms = {"a", "b", "é", "人", "工", "😀", "\xE4", "\xBA", "\xF0"};
  int num_matches = 0;
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const auto draw = [&](size_t limit) { return random() % limit; };
    std::string bytes;
    for (size_t i = draw(40); i > 0; --i) bytes += atoms[draw(atoms.size())];
    std::string stop = atoms[draw(6)];
    for (size_t i = draw(3); i > 0; --i) stop += atoms[draw(6)];
    const std::vector<int32_t> ids = *tokenizer.encode(bytes, false);
    const std::string whole = tokenizer.decode(ids, true);
    const std::string expected = whole.substr(0, whole.find(stop));

    TextStream stream(tokenizer, true, make({stop}), 0);
    std::string emitted;
    for (const int32_t id : ids) {
      emitted += stream.push(id);
      ASSERT_TRUE(expected.starts_with(emitted)) << "over-emitted";
    }
    emitted += stream.finish();
    ASSERT_EQ(emitted, expected);
    ASSERT_EQ(stream.match().has_value(), expected.size() < whole.size());
    num_matches += stream.match() ? 1 : 0;
  }
  EXPECT_GT(num_matches, 500);
}

}  // namespace
}  // namespace sluice::sequence
