#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "sluice/error.h"

namespace sluice::tokenizer {

// What we need to know of a tokenizer.model beyond what the library tells, and the checks that the
// library leaves out (it trusts the file: a damaged character map makes it read out of bounds).
// Source: sentencepiece_model.proto and Normalizer of sentencepiece 0.2.0.
struct SentencePieceModel {
  // Numbers as in the file.
  enum class PieceType : uint8_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6,
  };
  struct Piece {
    std::string_view text;  // well-formed UTF-8, not empty
    PieceType type = PieceType::kNormal;
  };

  std::vector<Piece> pieces;  // by id
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool has_byte_fallback = false;
};

// Reads `file`, which must outlive the result. kInvalidArgument or kUnimplemented says what is
// wrong, without the file's name.
Result<SentencePieceModel> read_sentencepiece_model(std::string_view file);

}  // namespace sluice::tokenizer
