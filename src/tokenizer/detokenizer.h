#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tokenizer/tokenizer.h"

namespace sluice::tokenizer {

// Turns a stream of token ids into text as it comes.
//
// Never emits a part of a character: bytes of an unfinished one are held back (at most 3). All
// pieces joined, finish() included, equal Tokenizer::decode of all ids.
// Threads: one.
class Detokenizer final {
 public:
  // `tokenizer` must outlive this. With at_start false the text continues another one: its first
  // token keeps the space that a decoder drops at the beginning of a text.
  Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens, bool at_start = true);

  // Takes one more id and returns the text that became certain (often one token's, maybe none).
  std::string push(int32_t token_id);
  // What is still held back; ill-formed bytes as U+FFFD. Afterwards a new text may begin.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  bool at_start_;
  std::string pending_;  // bytes of an unfinished character
};

// All ids at once: Tokenizer::decode for every kind of tokenizer.
std::string decode_tokens(const Tokenizer& tokenizer, std::span<const int32_t> token_ids,
                          bool skip_special_tokens);

}  // namespace sluice::tokenizer
