#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "sluice/error.h"

namespace sluice::tokenizer {

// A tokenizer.model, with its texts inside the file.
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
    float score = 0;  // finite
  };

  std::vector<Piece> pieces;  // by id
  bool is_bpe = false;        // else unigram
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool has_byte_fallback = false;
  // Empty, or checked: 4 bytes with the size of a darts-clone double array, that array, whose walks
  // stay inside, and strings with a NUL after each.
  std::string_view character_map;
  std::string_view begin_piece = "<s>";
  std::string_view end_piece = "</s>";
};

// Reads `file`, which must outlive the result. kInvalidArgument or kUnimplemented says what is
// wrong, without the file's name.
Result<SentencePieceModel> read_sentencepiece_model(std::string_view file);

// The value of a byte piece ("<0xE4>").
std::optional<char> byte_of_piece(std::string_view piece);

}  // namespace sluice::tokenizer
