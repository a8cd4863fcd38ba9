// tokenizer.json, and a text through the tokenizer that it makes.
#include <array>

#include "base/utf8.h"
#include "tests/fuzz/driver.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/detokenizer.h"

namespace sluice::fuzz {

std::span<const std::string_view> dictionary() {
  static constexpr std::array<std::string_view, 40> kWords = {R"("type":"ByteLevel")",
                                                              R"("type":"Split")",
                                                              R"("type":"Sequence")",
                                                              R"("type":"Metaspace")",
                                                              R"("type":"Digits")",
                                                              R"("type":"NFKC")",
                                                              R"("type":"Replace")",
                                                              R"("type":"Prepend")",
                                                              R"("type":"TemplateProcessing")",
                                                              R"("type":"Strip")",
                                                              R"("type":"ByteFallback")",
                                                              R"("behavior":"Removed")",
                                                              R"("behavior":"MergedWithNext")",
                                                              R"("behavior":"Contiguous")",
                                                              R"("pattern":{"Regex":"a|b+"})",
                                                              R"("pattern":{"String":" "})",
                                                              R"("invert":true)",
                                                              R"("byte_fallback":true)",
                                                              R"("ignore_merges":true)",
                                                              R"("special":true)",
                                                              R"("normalized":true)",
                                                              R"("lstrip":true)",
                                                              R"("single_word":true)",
                                                              R"("split":false)",
                                                              R"("merges":[])",
                                                              R"("vocab":{})",
                                                              R"("added_tokens":[])",
                                                              "null",
                                                              "[\"a\",\"b\"]",
                                                              R"(\\p{L}+)",
                                                              R"((?:a|aa)+)",
                                                              R"((?=x))",
                                                              R"([^\\s])",
                                                              "{1,9}",
                                                              "*",
                                                              "+",
                                                              "?",
                                                              "|",
                                                              "(",
                                                              ")"};
  return kWords;
}

}  // namespace sluice::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sluice::fuzz::require;
  static const std::string kText =
      "Hello, 世界! <s> \n  don't 123 é \xF0\x9F\xA6\x96<tool_call> x==y ~ (a)  \xCC\x81 ab";
  const auto tokenizer = sluice::tokenizer::make_bpe_tokenizer(
      sluice::fuzz::as_text(data, size), sluice::tokenizer::TokenizerConfig());
  if (!tokenizer) {
    require(!tokenizer.error().message.empty(), "a refusal says why");
    return 0;
  }
  const auto token_ids = (*tokenizer)->encode(kText, true);
  if (!token_ids) return 0;  // the expression took too many steps
  const std::string text = (*tokenizer)->decode(*token_ids, false);
  require(sluice::find_ill_formed_utf8(text) == std::string::npos, "decoded text is UTF-8");
  sluice::tokenizer::Detokenizer detokenizer(**tokenizer, false);
  std::string joined;
  for (const int32_t token_id : *token_ids) {
    require(token_id >= 0 && token_id < (*tokenizer)->vocabulary_size(), "an id has a token");
    joined += detokenizer.push(token_id);
  }
  require(joined + detokenizer.finish() == text, "pieces join to the text");
  return 0;
}
