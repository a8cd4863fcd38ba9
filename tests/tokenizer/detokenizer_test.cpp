#include "tokenizer/detokenizer.h"

#include <gtest/gtest.h>

#include "tests/tokenizer/golden.h"

namespace sluice::tokenizer {
namespace {

// Pushes all ids; checks that every piece is whole characters.
std::string join_pieces(const Tokenizer& tokenizer, std::span<const int32_t> token_ids,
                        bool skip_special_tokens) {
  Detokenizer detokenizer(tokenizer, skip_special_tokens);
  std::string text;
  for (const int32_t token_id : token_ids) {
    const std::string piece = detokenizer.push(token_id);
    EXPECT_EQ(find_ill_formed_utf8(piece), std::string_view::npos);
    text += piece;
  }
  const std::string last = detokenizer.finish();
  EXPECT_EQ(find_ill_formed_utf8(last), std::string_view::npos);
  return text + last;
}

class DetokenizerTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    tokenizer_ = load_golden(GetParam());
    ASSERT_NE(tokenizer_, nullptr);
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

// 1,000 lists for each of the twelve tokenizers; the seed is the index.
TEST_P(DetokenizerTest, PiecesJoinToTheWholeTextForRandomIds) {
  for (uint64_t index = 0; index < 1000; ++index) {
    const bool skips = index % 2 == 0;
    // Every third list also has ids beyond the vocabulary.
    const int32_t size = tokenizer_->vocabulary_size() + (index % 3 == 0 ? 50 : 0);
    const auto token_ids = random_ids(index, 0, size);
    ASSERT_EQ(join_pieces(*tokenizer_, token_ids, skips), tokenizer_->decode(token_ids, skips))
        << "index " << index;
  }
}

// Ids of short tokens: mostly single bytes, so that characters are cut in every way.
TEST_P(DetokenizerTest, PiecesJoinToTheWholeTextForRandomBytes) {
  std::vector<int32_t> bytes;
  for (int32_t id = 0; id < tokenizer_->vocabulary_size(); ++id) {
    const std::string token = tokenizer_->token_bytes(id, false);
    if (token.size() == 1 && (token[0] & 0x80) != 0) bytes.push_back(id);
  }
  for (uint64_t index = 0; index < 1000 && !bytes.empty(); ++index) {
    SplitMix64 rng(index);
    std::vector<int32_t> token_ids(rng.below(12));
    for (int32_t& id : token_ids) id = bytes[rng.below(bytes.size())];
    ASSERT_EQ(join_pieces(*tokenizer_, token_ids, true), tokenizer_->decode(token_ids, true))
        << "index " << index;
  }
}

TEST_P(DetokenizerTest, PiecesOfEncodedTextJoinToItsDecodedText) {
  for (const std::string& text : read_corpus()) {
    const auto token_ids = tokenizer_->encode(text, true);
    ASSERT_TRUE(token_ids.has_value());
    const std::string whole = tokenizer_->decode(*token_ids, true);
    ASSERT_EQ(join_pieces(*tokenizer_, *token_ids, true), whole);
    const bool keeps_text = GetParam() == "bloom" || GetParam() == "gpt2" || GetParam() == "llama3";
    if (keeps_text) {
      EXPECT_EQ(whole, text);
    }
  }
}

TEST_P(DetokenizerTest, CanBeUsedAgainAfterFinish) {
  const auto token_ids = tokenizer_->encode(" Hello world", false);
  ASSERT_TRUE(token_ids.has_value());
  Detokenizer detokenizer(*tokenizer_, true);
  std::string texts[2];
  for (std::string& text : texts) {
    for (const int32_t token_id : *token_ids) text += detokenizer.push(token_id);
    text += detokenizer.finish();
  }
  EXPECT_EQ(texts[0], texts[1]);
}

TEST_P(DetokenizerTest, IdsWithoutATokenAreNothing) {
  const int32_t size = tokenizer_->vocabulary_size();
  EXPECT_EQ(tokenizer_->decode(std::vector{-1, size, size + 1, INT32_MAX, INT32_MIN}, false), "");
  EXPECT_FALSE(tokenizer_->is_special(size));
  EXPECT_FALSE(tokenizer_->is_special(-1));
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, DetokenizerTest, testing::ValuesIn(golden_names()),
                         [](const auto& info) { return info.param; });

TEST(Detokenizer, HoldsBackAnUnfinishedCharacter) {
  const auto tokenizer = load_golden("bloom");
  ASSERT_NE(tokenizer, nullptr);
  const auto token_ids = tokenizer->encode("🦖", false);  // in no training text: single bytes
  ASSERT_TRUE(token_ids.has_value());
  ASSERT_GT(token_ids->size(), 1u);
  Detokenizer detokenizer(*tokenizer, true);
  for (size_t i = 0; i + 1 < token_ids->size(); ++i) {
    EXPECT_EQ(detokenizer.push((*token_ids)[i]), "") << i;
  }
  EXPECT_EQ(detokenizer.push(token_ids->back()), "🦖");
  EXPECT_EQ(detokenizer.push(token_ids->front()), "");
  EXPECT_EQ(detokenizer.finish(), "\xEF\xBF\xBD");
}

TEST(Detokenizer, SentencePieceDropsTheDummySpaceOnce) {
  const auto tokenizer = load_golden("sp_bpe");
  ASSERT_NE(tokenizer, nullptr);
  for (const char* text : {"a", " a", "  a", "", " ", "a b"}) {
    const auto token_ids = tokenizer->encode(text, true);
    ASSERT_TRUE(token_ids.has_value());
    EXPECT_EQ(tokenizer->decode(*token_ids, true), text);
  }
}

}  // namespace
}  // namespace sluice::tokenizer
