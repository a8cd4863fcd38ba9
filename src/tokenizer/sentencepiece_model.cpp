#include "tokenizer/sentencepiece_model.h"

#include <cmath>
#include <cstring>
#include <optional>
#include <string>

#include "base/utf8.h"
#include "tokenizer/token_table.h"

namespace sluice::tokenizer {
namespace {

// One field of a protobuf message. Source: protobuf's encoding guide.
struct Field {
  uint64_t number = 0;
  uint64_t value = 0;      // varint and fixed-width fields
  std::string_view bytes;  // length-delimited fields
};

class FieldReader {
 public:
  explicit FieldReader(std::string_view message) : rest_(message) {}
  bool at_end() const { return rest_.empty(); }

  // Nothing if the message is cut or has a field of an unknown kind.
  std::optional<Field> next() {
    const auto key = varint();
    if (!key) return std::nullopt;
    Field field{*key >> 3, 0, {}};
    switch (*key & 7) {
      case 0: {
        const auto value = varint();
        if (!value) return std::nullopt;
        field.value = *value;
        return field;
      }
      case 1:
        return fixed(field, 8);
      case 2: {
        const auto length = varint();
        if (!length || *length > rest_.size()) return std::nullopt;
        field.bytes = rest_.substr(0, *length);
        rest_.remove_prefix(*length);
        return field;
      }
      case 5:
        return fixed(field, 4);
      default:
        return std::nullopt;
    }
  }

 private:
  std::optional<uint64_t> varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    return std::nullopt;
  }

  std::optional<Field> fixed(Field field, size_t width) {
    if (rest_.size() < width) return std::nullopt;
    std::memcpy(&field.value, rest_.data(), width);  // little-endian, as is every host we run on
    rest_.remove_prefix(width);
    return field;
  }

  std::string_view rest_;
};

std::unexpected<Error> damaged() {
  return invalid_argument("damaged or cut (not a model file)");
}

std::string piece_name(size_t idx) {
  return "piece " + std::to_string(idx);
}

Result<SentencePieceModel::Piece> read_piece(std::string_view message, size_t idx) {
  SentencePieceModel::Piece piece;
  FieldReader reader(message);
  while (!reader.at_end()) {
    const auto field = reader.next();
    if (!field) return damaged();
    if (field->number == 1) piece.text = field->bytes;
    if (field->number == 2) {
      float score;
      const auto bits = static_cast<uint32_t>(field->value);
      std::memcpy(&score, &bits, sizeof(score));
      if (!std::isfinite(score)) return invalid_argument(piece_name(idx) + " has no finite score");
      piece.score = score;
    }
    if (field->number == 3) {
      if (field->value < 1 || field->value > 6) {
        return invalid_argument(piece_name(idx) + " has type " + std::to_string(field->value) +
                                ", known are 1 to 6");
      }
      piece.type = static_cast<SentencePieceModel::PieceType>(field->value);
    }
  }
  if (piece.text.empty()) return invalid_argument(piece_name(idx) + " is empty");
  if (find_ill_formed_utf8(piece.text) != std::string_view::npos) {
    return invalid_argument(piece_name(idx) + " is not well-formed UTF-8");
  }
  if (piece.text.find('\0') != std::string_view::npos) {
    return invalid_argument(piece_name(idx) + " holds a NUL");
  }
  return piece;
}

// The double array is walked without bounds. Layout: its size in bytes, the array of
// 32-bit units, then NUL-terminated strings. Source: darts-clone's unit format.
Result<void> check_character_map(std::string_view map) {
  if (map.empty()) return {};
  uint32_t trie_bytes = 0;
  if (map.size() < sizeof(trie_bytes)) return damaged();
  std::memcpy(&trie_bytes, map.data(), sizeof(trie_bytes));
  map.remove_prefix(sizeof(trie_bytes));
  const size_t num_units = trie_bytes / 4;
  if (trie_bytes > map.size() || trie_bytes % 4 != 0 || num_units == 0) return damaged();
  const std::string_view strings = map.substr(trie_bytes);
  if (strings.empty() || strings.back() != '\0') return damaged();
  const auto unit_at = [&](size_t idx) {
    uint32_t unit;
    std::memcpy(&unit, map.data() + idx * sizeof(unit), sizeof(unit));
    return unit;
  };
  for (size_t i = 0; i < num_units; ++i) {
    const uint32_t unit = unit_at(i);
    if ((unit >> 31) != 0) continue;  // a leaf: no way leads on from it
    const size_t child = i ^ (static_cast<size_t>(unit >> 10) << ((unit & (1U << 9)) >> 6));
    const bool has_leaf = (unit & (1U << 8)) != 0;
    if ((child | 0xFF) >= num_units ||
        (has_leaf && (unit_at(child) & 0x7FFFFFFF) >= strings.size())) {
      return invalid_argument("damaged character map");
    }
  }
  return {};
}

Result<void> read_normalizer(std::string_view message, SentencePieceModel* model) {
  FieldReader reader(message);
  while (!reader.at_end()) {
    const auto field = reader.next();
    if (!field) return damaged();
    if (field->number == 2) {
      if (auto checked = check_character_map(field->bytes); !checked) return checked;
      model->character_map = field->bytes;
    }
    if (field->number == 3) model->add_dummy_prefix = field->value != 0;
    if (field->number == 4) model->remove_extra_whitespaces = field->value != 0;
    if (field->number == 5 && field->value == 0) {
      return fail(ErrorCode::kUnimplemented, "escape_whitespaces = false is not supported");
    }
  }
  return {};
}

Result<void> read_trainer(std::string_view message, SentencePieceModel* model) {
  FieldReader reader(message);
  while (!reader.at_end()) {
    const auto field = reader.next();
    if (!field) return damaged();
    if (field->number == 3 && field->value != 1 && field->value != 2) {
      return fail(ErrorCode::kUnimplemented, "model_type " + std::to_string(field->value) +
                                                 " is not supported (unigram is 1, BPE 2)");
    }
    if (field->number == 3) model->is_bpe = field->value == 2;
    if (field->number == 24 && field->value != 0) {
      return fail(ErrorCode::kUnimplemented, "treat_whitespace_as_suffix is not supported");
    }
    if (field->number == 35) model->has_byte_fallback = field->value != 0;
    if (field->number == 46 && !field->bytes.empty()) model->begin_piece = field->bytes;
    if (field->number == 47 && !field->bytes.empty()) model->end_piece = field->bytes;
  }
  return {};
}

Result<void> read_denormalizer(std::string_view message) {
  FieldReader reader(message);
  while (!reader.at_end()) {
    const auto field = reader.next();
    if (!field) return damaged();
    if (field->number == 2 && !field->bytes.empty()) {
      return fail(ErrorCode::kUnimplemented, "denormalizer_spec is not supported");
    }
  }
  return {};
}

Result<void> read_model_field(const Field& field, SentencePieceModel* model) {
  switch (field.number) {
    case 1: {
      if (model->pieces.size() > static_cast<size_t>(kMaxTokenId)) {
        return invalid_argument("more than " + std::to_string(kMaxTokenId) + " pieces");
      }
      auto piece = read_piece(field.bytes, model->pieces.size());
      if (!piece) return std::unexpected(piece.error());
      model->pieces.push_back(*piece);
      return {};
    }
    case 2:
      return read_trainer(field.bytes, model);
    case 3:
      return read_normalizer(field.bytes, model);
    case 5:
      return read_denormalizer(field.bytes);
    default:
      return {};
  }
}

}  // namespace

Result<SentencePieceModel> read_sentencepiece_model(std::string_view file) {
  SentencePieceModel model;
  FieldReader reader(file);
  while (!reader.at_end()) {
    const auto field = reader.next();
    if (!field) return damaged();
    if (auto read = read_model_field(*field, &model); !read) return std::unexpected(read.error());
  }
  if (model.pieces.empty()) return invalid_argument("no pieces");
  return model;
}

std::optional<char> byte_of_piece(std::string_view piece) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return std::nullopt;
  const size_t high = kDigits.find(piece[3]);
  const size_t low = kDigits.find(piece[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
  return static_cast<char>(high * 16 + low);
}

}  // namespace sluice::tokenizer
