#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/piece_trie.h"
#include "tokenizer/sentencepiece_model.h"

namespace sluice::tokenizer {

// What a tokenizer.model does to text before it is split: a map of character sequences, and spaces.
//
// Threads: any.
// Source: Normalizer of sentencepiece 0.2.0.
class SentencePieceNormalizer final {
 public:
  // Keeps a copy of the model's character map.
  explicit SentencePieceNormalizer(const SentencePieceModel& model);

  // `text` (well-formed UTF-8) with U+2581 for spaces, one more in front if `has_dummy_prefix` (of
  // a text that is not empty). User-defined symbols stay as they are.
  std::string apply(std::string_view text, bool has_dummy_prefix) const;

  const PieceTrie& user_defined() const { return user_defined_; }

 private:
  struct Head {
    std::string_view text;  // what stands for
    size_t length = 0;      // so many bytes
  };
  Head head(std::string_view text) const;
  size_t mapped_prefix(std::string_view text, size_t* string_offset) const;

  PieceTrie user_defined_;
  std::vector<uint32_t> map_;  // a double array in darts-clone's format; empty: nothing is mapped
  std::string strings_;        // NUL after each
  bool removes_spaces_;        // at both ends, and all but one in the middle
};

}  // namespace sluice::tokenizer
