#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>
#include <vector>

#include "sluice/error.h"
#include "tokenizer/piece_trie.h"
#include "tokenizer/sentencepiece_model.h"
#include "tokenizer/sentencepiece_normalizer.h"
#include "tokenizer/string_index.h"

namespace sluice::tokenizer {

// Text to ids with a tokenizer.model, the same ids as the library gives, in linear time for
// unigram and O(n log n) for BPE.
//
// Scores are added as the library adds them, in the same types and over the whole text: the choice
// between pieces that are nearly as good hangs on how the sums are rounded.
// Threads: any.
// Source: unigram_model.cc, bpe_model.cc and model_interface.cc of sentencepiece 0.2.0; Kudo 2018,
// arXiv:1804.10959; Sennrich et al. 2016, arXiv:1508.07909.
class SentencePieceEncoder final {
 public:
  static constexpr int32_t kNone = StringIndex::kNone;

  // kInvalidArgument: a piece twice, not exactly one unknown piece, byte pieces without byte
  // fallback or byte fallback without all 256 of them.
  static Result<SentencePieceEncoder> create(const SentencePieceModel& model);

  // Appends the ids of `text`, which must be well-formed UTF-8. kInvalidArgument if it is longer
  // than 2 GiB once it is normalized.
  Result<void> encode(std::string_view text, bool has_dummy_prefix,
                      std::vector<int32_t>* token_ids) const;

  // The piece of this spelling; kNone if there is none.
  int32_t find(std::string_view piece) const;

 private:
  using PieceType = SentencePieceModel::PieceType;
  enum Fate : uint8_t { kUnknownFate, kStaysWhole, kFallsApart };
  class Output;
  class BpeWord;

  explicit SentencePieceEncoder(const SentencePieceModel& model);
  Result<void> add_pieces(const SentencePieceModel& model);
  Result<void> find_bytes(const SentencePieceModel& model);
  void rank_pieces(const SentencePieceModel& model);
  PieceType type(int32_t id) const { return types_[static_cast<size_t>(id)]; }
  int32_t id_or_unknown(std::string_view piece) const;
  void encode_unigram(std::string_view text, Output* output) const;
  void encode_bpe(std::string_view text, Output* output) const;
  void encode_word(std::string_view word, BpeWord* scratch, Output* output) const;

  SentencePieceNormalizer normalizer_;
  std::vector<PieceType> types_;  // by id
  StringIndex pieces_{0};         // normal, user-defined and unused ones
  StringIndex reserved_{0};       // all others
  std::array<int32_t, 256> byte_ids_{};
  int32_t unknown_id_ = kNone;
  bool is_bpe_ = false;
  bool has_byte_fallback_ = false;

  // Unigram.
  PieceTrie trie_;
  std::vector<float> scores_;  // by id
  float lowest_score_ = 0;
  float highest_score_ = 0;

  // BPE.
  std::vector<uint32_t> ranks_;  // by id, lower is merged first; equal for equal scores
  size_t max_piece_bytes_ = 0;
  bool has_unused_ = false;
  bool crosses_words_ = false;  // a piece goes on behind a space that is not at its start
  // By id: whether the piece's own characters merge back into it, found out when first met.
  mutable std::vector<std::atomic<uint8_t>> fates_;
};

}  // namespace sluice::tokenizer
