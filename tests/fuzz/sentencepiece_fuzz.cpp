// tokenizer.model, and a text through the tokenizer that it makes.
#include <array>

#include "base/utf8.h"
#include "tests/fuzz/driver.h"
#include "tokenizer/detokenizer.h"
#include "tokenizer/sentencepiece_tokenizer.h"

namespace sluice::fuzz {

std::span<const std::string_view> dictionary() {
  using namespace std::string_view_literals;
  static constexpr std::array<std::string_view, 22> kWords = {
      "\x0A\x0A\x0A\x01z\x15\0\0\xC0\xBF\x18\x01"sv,  // a piece, normal
      "\x0A\x03\x0A\x01y"sv,                          // a piece without score and type
      "\x0A\x05\x0A\x01x\x18\x03"sv,                  // a control piece
      "\x0A\x05\x0A\x01w\x18\x04"sv,                  // one of the user's
      "\x0A\x05\x0A\x01v\x18\x05"sv,                  // one that is not used
      "\x12\x02\x18\x02"sv,                           // BPE
      "\x12\x02\x18\x01"sv,                           // unigram
      "\x12\x03\x98\x02\x01"sv,                       // byte fallback
      "\x1A\x02\x18\x00"sv,                           // no dummy prefix
      "\x1A\x02\x20\x00"sv,                           // keeps spaces
      "\x18\x01"sv,
      "\x18\x02"sv,
      "\x18\x06"sv,
      "\x15\0\0\x80\x7F"sv,  // an infinite score
      "\xE2\x96\x81",
      "<0x41>",
      "<unk>",
      "\xFF\xFF\xFF\xFF\x0F",
      "\0\0\0\0"sv,
      "\0\x01\0\0"sv,
      "\x80"sv,
      "\xF0\x9F\xA6\x96"};
  return kWords;
}

}  // namespace sluice::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sluice::fuzz::require;
  static const std::string kText =
      "  Hello, 世界! <s> \n  don't 123 é \xF0\x9F\xA6\x96 x==y ~ \xE2\x96\x81(a) \xEF\xBC\xA1  "
      "ab</s> ";
  const auto tokenizer = sluice::tokenizer::make_sentencepiece_tokenizer(
      sluice::fuzz::as_text(data, size), sluice::tokenizer::TokenizerConfig());
  if (!tokenizer) {
    const std::string& message = tokenizer.error().message;
    require(!message.empty() && sluice::find_ill_formed_utf8(message) == std::string::npos,
            "a refusal says why");
    return 0;
  }
  const auto plain = (*tokenizer)->encode(kText, true);
  const auto special = (*tokenizer)->encode_with_special_tokens(kText, {});
  require(plain.has_value() && special.has_value(), "a text has token ids");
  for (const auto& token_ids : {*plain, *special}) {
    const std::string text = (*tokenizer)->decode(token_ids, false);
    require(sluice::find_ill_formed_utf8(text) == std::string::npos, "decoded text is UTF-8");
    sluice::tokenizer::Detokenizer detokenizer(**tokenizer, false);
    std::string joined;
    for (const int32_t token_id : token_ids) {
      require(token_id >= 0 && token_id < (*tokenizer)->vocabulary_size(), "an id has a token");
      joined += detokenizer.push(token_id);
    }
    require(joined + detokenizer.finish() == text, "pieces join to the text");
  }
  return 0;
}
