#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "sluice/error.h"
#include "tokenizer/merge_table.h"
#include "tokenizer/string_index.h"
#include "tokenizer/tokenizer_file.h"

namespace sluice::tokenizer {

// Byte-pair encoding of one word: the "model" of a tokenizer.json.
//
// A byte-level model starts from bytes; the other kind from characters, and from bytes for
// characters that are not in the vocabulary (byte_fallback).
// Threads: any.
class BpeModel final {
 public:
  // `json` is the file's "model", `vocabulary` its vocab and merges. kInvalidArgument names the
  // field: an id twice, a merge whose parts or result are no tokens, a byte without a token.
  // kUnimplemented names what is not supported: all types but BPE, dropout, prefixes and suffixes
  // of subwords, characters that would have no token.
  static Result<BpeModel> create(const Json& json, const Vocabulary& vocabulary,
                                 bool is_byte_level);

  // Appends the tokens of `word`, which must not be empty.
  void encode_word(std::string_view word, MergeScratch* scratch,
                   std::vector<int32_t>* token_ids) const;

 private:
  enum Fate : uint8_t { kUnknown, kStaysWhole, kFallsApart };

  BpeModel() = default;
  void add_tokens(const Vocabulary& vocabulary);
  Result<void> add_merges(const Vocabulary& vocabulary);
  Result<void> find_bytes(bool is_byte_level);
  void merge_word(std::string_view word, MergeScratch* scratch) const;

  StringIndex index_{0};  // by the bytes of the text, not by byte-level spelling
  MergeTable merges_;
  std::array<int32_t, 256> byte_ids_{};
  bool is_byte_level_ = false;
  bool ignores_merges_ = false;  // a word that is a token is that token, whatever the merges say
  // By id: whether the token's own bytes merge back into it, found out when first met. Most words
  // of a text are tokens, so this saves their merging; threads may find out the same twice.
  mutable std::vector<std::atomic<uint8_t>> fates_;
};

}  // namespace sluice::tokenizer
