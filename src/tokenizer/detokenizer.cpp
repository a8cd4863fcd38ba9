#include "tokenizer/detokenizer.h"

#include <utility>

namespace sluice::tokenizer {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens, bool at_start)
    : tokenizer_(&tokenizer), skip_special_tokens_(skip_special_tokens), at_start_(at_start) {}

std::string Detokenizer::push(int32_t token_id) {
  if (skip_special_tokens_ && tokenizer_->is_special(token_id)) return {};
  pending_ += tokenizer_->token_bytes(token_id, at_start_);
  at_start_ = at_start_ && tokenizer_->stays_at_start(token_id);
  std::string text;
  const size_t taken = append_repaired_utf8(pending_, false, tokenizer_->utf8_repair(), &text);
  pending_.erase(0, taken);
  return text;
}

std::string Detokenizer::finish() {
  std::string text;
  append_repaired_utf8(pending_, true, tokenizer_->utf8_repair(), &text);
  pending_.clear();
  at_start_ = true;
  return text;
}

}  // namespace sluice::tokenizer
