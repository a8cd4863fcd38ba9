// The tokenizers of the embedded models, against ids that the reference libraries gave:
// tests/golden/tokenizers/NAME.json is a list of {"text": ..., "ids": [...], "decoded": ...},
// without added special tokens.
#include <gtest/gtest.h>

#include "tests/tokenizer/golden.h"
#include "tokenizer/detokenizer.h"

namespace sluice::tokenizer {
namespace {

struct Embedded {
  const char* package;
  const char* golden;
};

class EmbeddedTest : public testing::TestWithParam<Embedded> {};

TEST_P(EmbeddedTest, EncodesAsTheReferenceDoes) {
  const auto folder = std::filesystem::path(SLUICE_SOURCE_DIR) / "models" / GetParam().package;
  const auto tokenizer = load_tokenizer(folder);
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  const Json golden = Json::parse(read_whole_file(kGoldenFolder / GetParam().golden));
  ASSERT_GE(golden.size(), 20u);
  for (const Json& entry : golden) {
    const auto text = entry["text"].get<std::string>();
    const auto token_ids = (*tokenizer)->encode(text, false);
    ASSERT_TRUE(token_ids.has_value()) << token_ids.error().message;
    EXPECT_EQ(*token_ids, entry["ids"].get<std::vector<int32_t>>()) << text;
    Detokenizer detokenizer(**tokenizer, true);
    std::string joined;
    for (const int32_t token_id : *token_ids) joined += detokenizer.push(token_id);
    joined += detokenizer.finish();
    EXPECT_EQ(joined, entry["decoded"].get<std::string>()) << text;
    EXPECT_EQ(joined, (*tokenizer)->decode(*token_ids, true)) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Packages, EmbeddedTest,
                         testing::Values(Embedded{"llama-tiny", "llama_tiny.json"},
                                         Embedded{"bloom-tiny", "bloom_tiny.json"}),
                         [](const auto& info) {
                           return std::string(info.param.golden).substr(0, 10);
                         });

}  // namespace
}  // namespace sluice::tokenizer
