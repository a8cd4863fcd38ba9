#include "tokenizer/tokenizer.h"

#include "tokenizer/detokenizer.h"

namespace sluice::tokenizer {

std::string decode_tokens(const Tokenizer& tokenizer, std::span<const int32_t> token_ids,
                          bool skip_special_tokens) {
  std::string bytes;
  bool at_start = true;
  for (const int32_t token_id : token_ids) {
    if (skip_special_tokens && tokenizer.is_special(token_id)) continue;
    bytes += tokenizer.token_bytes(token_id, at_start);
    at_start = at_start && tokenizer.stays_at_start(token_id);
  }
  std::string text;
  text.reserve(bytes.size());
  append_repaired_utf8(bytes, true, tokenizer.utf8_repair(), &text);
  return text;
}

Result<void> check_text(std::string_view text) {
  constexpr size_t kMaxTextBytes = size_t{1} << 30;
  if (text.size() > kMaxTextBytes) {
    return invalid_argument("text has " + std::to_string(text.size()) + " bytes, limit is " +
                            std::to_string(kMaxTextBytes));
  }
  const size_t wrong = find_ill_formed_utf8(text);
  if (wrong == std::string_view::npos) return {};
  return invalid_argument("text is not well-formed UTF-8 at byte " + std::to_string(wrong));
}

Result<void> check_vocabulary_size(const Tokenizer& tokenizer, int64_t model_vocabulary_size) {
  if (tokenizer.vocabulary_size() <= model_vocabulary_size) return {};
  return invalid_argument("tokenizer has " + std::to_string(tokenizer.vocabulary_size()) +
                          " tokens, but the model's vocabulary is " +
                          std::to_string(model_vocabulary_size) +
                          ": the tokenizer belongs to another model");
}

}  // namespace sluice::tokenizer
