// Texts in which special tokens are spelled out, such as rendered chats, against the ids that
// tests/golden/tokenizers/make_chat_golden.py wrote.
#include <gtest/gtest.h>

#include <fstream>

#include "tests/tokenizer/golden.h"

namespace sluice::tokenizer {
namespace {

std::unique_ptr<Tokenizer> load_any(const std::string& name) {
  if (!name.ends_with("-tiny")) return load_golden(name);
  auto tokenizer = load_tokenizer(std::filesystem::path(SLUICE_SOURCE_DIR) / "models" / name);
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return tokenizer ? std::move(*tokenizer) : nullptr;
}

std::vector<int32_t> ids_of(const Tokenizer& tokenizer, const std::string& text,
                            std::span<const size_t> plain_at = {}) {
  auto ids = tokenizer.encode_with_special_tokens(text, plain_at);
  EXPECT_TRUE(ids.has_value()) << ids.error().message;
  return ids.value_or(std::vector<int32_t>());
}

class SpecialTokensTest : public testing::TestWithParam<std::string> {};

TEST_P(SpecialTokensTest, AreReadAsTransformersReadsThem) {
  const auto tokenizer = load_any(GetParam());
  ASSERT_NE(tokenizer, nullptr);
  const Json golden = Json::parse(read_whole_file(kGoldenFolder / "chat_ids.json"));
  const auto texts = golden["texts"].get<std::vector<std::string>>();
  const Json& expected = golden["ids"][GetParam()];
  ASSERT_GT(texts.size(), 200u);
  ASSERT_EQ(expected.size(), texts.size());
  size_t num_special = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto ids = ids_of(*tokenizer, texts[i]);
    EXPECT_EQ(ids, expected[i].get<std::vector<int32_t>>()) << testing::PrintToString(texts[i]);
    for (const int32_t id : ids) num_special += tokenizer->is_special(id) ? 1 : 0;
  }
  EXPECT_GT(num_special, 20u);
}

TEST_P(SpecialTokensTest, AreFoundAndKeptAsPlainText) {
  const auto tokenizer = load_any(GetParam());
  ASSERT_NE(tokenizer, nullptr);
  for (int32_t id = 0; id < tokenizer->vocabulary_size(); ++id) {
    if (!tokenizer->is_special(id)) continue;
    const std::string spelling = tokenizer->token_bytes(id, false);
    const std::string text = "the " + spelling + " and " + spelling + " one";
    const size_t second = 4 + spelling.size() + 5;
    if (tokenizer->find_special_tokens(text) != std::vector<size_t>{4, second}) {
      ADD_FAILURE() << spelling << testing::PrintToString(tokenizer->find_special_tokens(text));
      continue;
    }
    const std::vector<size_t> first_is_plain{4};
    const auto ids = ids_of(*tokenizer, text, first_is_plain);
    EXPECT_EQ(std::ranges::count(ids, id), 1) << spelling;
    EXPECT_EQ(std::ranges::count(ids_of(*tokenizer, text), id), 2) << spelling;
  }
}

TEST_P(SpecialTokensTest, WithEveryOneKeptPlainIdsAreThoseOfPlainText) {
  const auto tokenizer = load_any(GetParam());
  ASSERT_NE(tokenizer, nullptr);
  const Json golden = Json::parse(read_whole_file(kGoldenFolder / "chat_ids.json"));
  for (const Json& each : golden["texts"]) {
    const auto text = each.get<std::string>();
    EXPECT_EQ(ids_of(*tokenizer, text, tokenizer->find_special_tokens(text)),
              tokenizer->encode(text, false))
        << testing::PrintToString(text);
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, SpecialTokensTest,
                         testing::Values("bloom", "gpt2", "starcoder", "llama3", "qwen2", "tekken",
                                         "behaviors", "llama2", "llama2_legacy", "llama-tiny",
                                         "bloom-tiny", "sp_bpe"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

// A copy of a golden tokenizer with a configuration of its own beside it.
class ConfiguredTokensTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "configured_tokens";
    std::filesystem::create_directories(folder_);
    std::filesystem::copy_file(kGoldenFolder / "qwen2" / "tokenizer.json",
                               folder_ / "tokenizer.json",
                               std::filesystem::copy_options::overwrite_existing);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Tokenizer> load(const std::string& config) {
    std::ofstream(folder_ / "tokenizer_config.json") << config;
    auto tokenizer = load_tokenizer(folder_);
    EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
    return tokenizer ? std::move(*tokenizer) : nullptr;
  }

  std::filesystem::path folder_;
};

// Ids by AutoTokenizer of transformers 4.57 over the same two files.
TEST_F(ConfiguredTokensTest, TheConfigurationsFlagsGoFirst) {
  const std::string text = "a <|im_end|>  \n b <tool_call> c";
  const auto plain = load("{}");
  ASSERT_NE(plain, nullptr);
  EXPECT_EQ(ids_of(*plain, text),
            (std::vector<int32_t>{64, 220, 1202, 282, 198, 319, 220, 1203, 493}));
  EXPECT_FALSE(plain->is_special(1203));
  const auto configured = load(R"({"added_tokens_decoder": {
      "1202": {"content": "<|im_end|>", "rstrip": true, "normalized": false, "special": true},
      "1203": {"content": "<tool_call>", "lstrip": true, "normalized": false, "special": true}}})");
  ASSERT_NE(configured, nullptr);
  EXPECT_EQ(ids_of(*configured, text), (std::vector<int32_t>{64, 220, 1202, 65, 1203, 493}));
  EXPECT_TRUE(configured->is_special(1203));
  EXPECT_EQ(configured->find_special_tokens(text), (std::vector<size_t>{2, 18}));
}

// A token of the vocabulary that tokenizer.json does not call added.
TEST_F(ConfiguredTokensTest, AddsTokensOfTheVocabulary) {
  const auto plain = load("{}");
  ASSERT_NE(plain, nullptr);
  const std::vector<int32_t> word = ids_of(*plain, "the");
  ASSERT_EQ(word.size(), 1u);
  const auto configured = load(R"({"added_tokens_decoder": {")" + std::to_string(word[0]) +
                               R"(": {"content": "the", "normalized": false, "special": true}}})");
  ASSERT_NE(configured, nullptr);
  std::vector<int32_t> expected = ids_of(*plain, "bro");
  expected.push_back(word[0]);
  const auto end = ids_of(*plain, "rs");
  expected.insert(expected.end(), end.begin(), end.end());
  EXPECT_EQ(ids_of(*configured, "brothers"), expected);
}

}  // namespace
}  // namespace sluice::tokenizer
