// Ids and texts equal to the reference libraries', which tests/golden/tokenizers/make_golden.py
// ran.
#include <gtest/gtest.h>

#include "tests/tokenizer/golden.h"

namespace sluice::tokenizer {
namespace {

constexpr size_t kRandomPerHash = 10;

class GoldenTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    tokenizer_ = load_golden(GetParam());
    ASSERT_NE(tokenizer_, nullptr);
    golden_ = read_golden(GetParam());
  }

  std::vector<int32_t> encode(const std::string& text) const {
    auto token_ids = tokenizer_->encode(text, false);
    EXPECT_TRUE(token_ids.has_value()) << token_ids.error().message;
    return token_ids.value_or(std::vector<int32_t>());
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  Json golden_;
};

TEST_P(GoldenTest, HasTheReferencesSize) {
  EXPECT_EQ(tokenizer_->vocabulary_size(), golden_["size"].get<int32_t>());
  EXPECT_TRUE(check_vocabulary_size(*tokenizer_, tokenizer_->vocabulary_size()).has_value());
  EXPECT_TRUE(check_vocabulary_size(*tokenizer_, 1'000'000).has_value());
  const auto refused = check_vocabulary_size(*tokenizer_, tokenizer_->vocabulary_size() - 1);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
}

TEST_P(GoldenTest, EncodesTheCorpus) {
  const auto corpus = read_corpus();
  ASSERT_GT(corpus.size(), 300u);
  ASSERT_EQ(golden_["ids"].size(), corpus.size());
  for (size_t i = 0; i < corpus.size(); ++i) {
    EXPECT_EQ(encode(corpus[i]), golden_["ids"][i].get<std::vector<int32_t>>())
        << "corpus[" << i << "]: " << testing::PrintToString(corpus[i].substr(0, 200));
  }
}

TEST_P(GoldenTest, AddsTheConfiguredSpecialTokens) {
  const auto token_ids = tokenizer_->encode("Hello, 世界!", true);
  ASSERT_TRUE(token_ids.has_value());
  EXPECT_EQ(*token_ids, golden_["framed"].get<std::vector<int32_t>>());
}

TEST_P(GoldenTest, EncodesRandomTexts) {
  const Json& hashes = golden_["random_ids"];
  ASSERT_EQ(hashes.size() * kRandomPerHash, 10000u);
  for (size_t block = 0; block < hashes.size(); ++block) {
    GoldenHash hash;
    for (size_t i = 0; i < kRandomPerHash; ++i) {
      hash.add_ids(encode(random_text(block * kRandomPerHash + i)));
    }
    EXPECT_EQ(hash.digits(), hashes[block].get<std::string>())
        << "one of the texts from index " << block * kRandomPerHash;
  }
}

TEST_P(GoldenTest, DecodesRandomIds) {
  const Json& hashes = golden_["random_texts"];
  ASSERT_EQ(hashes.size() * kRandomPerHash, 1000u);
  const auto first_id = golden_["first_id"].get<int32_t>();
  for (size_t block = 0; block < hashes.size(); ++block) {
    GoldenHash hash;
    for (size_t i = 0; i < kRandomPerHash; ++i) {
      const auto token_ids =
          random_ids(block * kRandomPerHash + i, first_id, tokenizer_->vocabulary_size());
      hash.add_text(tokenizer_->decode(token_ids, true));
    }
    EXPECT_EQ(hash.digits(), hashes[block].get<std::string>())
        << "one of the lists from index " << block * kRandomPerHash;
  }
}

TEST_P(GoldenTest, RefusesWhatIsNotUtf8) {
  for (int byte = 0x80; byte < 0x100; ++byte) {
    const std::string text = std::string("ab") + static_cast<char>(byte) + "c";
    const auto token_ids = tokenizer_->encode(text, true);
    ASSERT_FALSE(token_ids.has_value()) << byte;
    EXPECT_EQ(token_ids.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(token_ids.error().message.find("at byte 2"), std::string::npos)
        << token_ids.error().message;
  }
}

TEST_P(GoldenTest, LeavesSpecialTokensInTextAlone) {
  for (int32_t token_id = 0; token_id < tokenizer_->vocabulary_size(); ++token_id) {
    if (!tokenizer_->is_special(token_id)) continue;
    const std::string spelling = tokenizer_->token_bytes(token_id, false);
    for (const int32_t found : encode("a" + spelling + " b"))
      EXPECT_NE(found, token_id) << spelling;
    EXPECT_EQ(tokenizer_->decode(std::vector{token_id}, true), "");
    EXPECT_EQ(tokenizer_->decode(std::vector{token_id}, false), spelling);
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, GoldenTest, testing::ValuesIn(golden_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace sluice::tokenizer
