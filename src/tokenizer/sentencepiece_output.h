#pragma once

#include "tokenizer/sentencepiece_encoder.h"

namespace sluice::tokenizer {

// Bytes of the character that starts with `lead`, as the library counts them: 1 for every byte that
// starts none.
inline size_t character_length(char lead) {
  constexpr char kLengths[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
  return static_cast<size_t>(kLengths[static_cast<uint8_t>(lead) >> 4]);
}

// Where found pieces become ids: an unknown piece is spelled in bytes, or stands for a whole run of
// unknown ones.
class SentencePieceEncoder::Output {
 public:
  Output(const SentencePieceEncoder& encoder, std::vector<int32_t>* token_ids)
      : encoder_(encoder), token_ids_(*token_ids) {}

  void add(std::string_view piece, int32_t id) {
    const bool is_unknown = id == encoder_.unknown_id_;
    if (is_unknown && encoder_.has_byte_fallback_) {
      for (const char byte : piece) {
        token_ids_.push_back(encoder_.byte_ids_[static_cast<uint8_t>(byte)]);
      }
    } else if (!is_unknown || !is_behind_unknown_) {
      token_ids_.push_back(id);
    }
    is_behind_unknown_ = is_unknown;
  }

 private:
  const SentencePieceEncoder& encoder_;
  std::vector<int32_t>& token_ids_;
  bool is_behind_unknown_ = false;
};

}  // namespace sluice::tokenizer
