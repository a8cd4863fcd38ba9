#include "tokenizer/sentencepiece_encoder.h"

#include <algorithm>
#include <cfloat>
#include <numeric>
#include <string>
#include <utility>

#include "tokenizer/sentencepiece_output.h"

namespace sluice::tokenizer {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581

// Whether a space stands behind something that is none.
bool has_inner_space(std::string_view piece) {
  while (piece.starts_with(kSpaceSymbol)) piece.remove_prefix(kSpaceSymbol.size());
  return piece.find(kSpaceSymbol) != std::string_view::npos;
}

bool is_reserved(SentencePieceModel::PieceType type) {
  using PieceType = SentencePieceModel::PieceType;
  return type != PieceType::kNormal && type != PieceType::kUserDefined &&
         type != PieceType::kUnused;
}

}  // namespace

SentencePieceEncoder::SentencePieceEncoder(const SentencePieceModel& model)
    : normalizer_(model), is_bpe_(model.is_bpe), has_byte_fallback_(model.has_byte_fallback) {}

Result<SentencePieceEncoder> SentencePieceEncoder::create(const SentencePieceModel& model) {
  SentencePieceEncoder encoder(model);
  if (auto added = encoder.add_pieces(model); !added) return std::unexpected(added.error());
  if (auto found = encoder.find_bytes(model); !found) return std::unexpected(found.error());
  if (model.is_bpe) {
    encoder.rank_pieces(model);
    return encoder;
  }
  std::vector<std::pair<std::string_view, int32_t>> strings;
  encoder.lowest_score_ = FLT_MAX;
  encoder.highest_score_ = FLT_MIN;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const auto& piece = model.pieces[i];
    encoder.scores_.push_back(piece.score);
    if (!is_reserved(piece.type)) strings.emplace_back(piece.text, static_cast<int32_t>(i));
    if (piece.type != PieceType::kNormal) continue;
    encoder.lowest_score_ = std::min(encoder.lowest_score_, piece.score);
    encoder.highest_score_ = std::max(encoder.highest_score_, piece.score);
  }
  encoder.trie_ = PieceTrie(std::move(strings));
  return encoder;
}

Result<void> SentencePieceEncoder::add_pieces(const SentencePieceModel& model) {
  pieces_ = StringIndex(model.pieces.size());
  reserved_ = StringIndex(model.pieces.size());
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const auto& piece = model.pieces[i];
    const auto id = static_cast<int32_t>(i);
    types_.push_back(piece.type);
    StringIndex& index = is_reserved(piece.type) ? reserved_ : pieces_;
    if (!index.insert(piece.text, id)) {
      return invalid_argument("piece " + std::to_string(i) + " is there twice");
    }
    if (piece.type != PieceType::kUnknown) continue;
    if (unknown_id_ != kNone) return invalid_argument("more than one unknown piece");
    unknown_id_ = id;
  }
  if (unknown_id_ == kNone) return invalid_argument("no unknown piece");
  return {};
}

Result<void> SentencePieceEncoder::find_bytes(const SentencePieceModel& model) {
  byte_ids_.fill(kNone);
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    if (model.pieces[i].type != PieceType::kByte) continue;
    const auto byte = byte_of_piece(model.pieces[i].text);
    if (!byte) {
      return invalid_argument("piece " + std::to_string(i) + " is a byte, but not spelled <0x..>");
    }
    if (!has_byte_fallback_) {
      return invalid_argument("piece " + std::to_string(i) +
                              " is a byte, but byte_fallback is off");
    }
    byte_ids_[static_cast<uint8_t>(*byte)] = static_cast<int32_t>(i);
  }
  const auto missing = std::ranges::find(byte_ids_, kNone);
  if (has_byte_fallback_ && missing != byte_ids_.end()) {
    return invalid_argument("byte_fallback is on, but there is no piece for byte " +
                            std::to_string(missing - byte_ids_.begin()));
  }
  return {};
}

void SentencePieceEncoder::rank_pieces(const SentencePieceModel& model) {
  const auto& pieces = model.pieces;
  std::vector<int32_t> order(pieces.size());
  std::iota(order.begin(), order.end(), 0);
  const auto score = [&](int32_t id) { return pieces[static_cast<size_t>(id)].score; };
  std::ranges::sort(order, [&](int32_t a, int32_t b) { return score(a) > score(b); });
  ranks_.resize(pieces.size());
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && score(order[i]) != score(order[i - 1])) ++rank;
    ranks_[static_cast<size_t>(order[i])] = rank;
  }
  for (const auto& piece : pieces) {
    max_piece_bytes_ = std::max(max_piece_bytes_, piece.text.size());
    has_unused_ = has_unused_ || piece.type == PieceType::kUnused;
    crosses_words_ = crosses_words_ || (piece.type != PieceType::kUserDefined &&
                                        !is_reserved(piece.type) && has_inner_space(piece.text));
  }
  fates_ = std::vector<std::atomic<uint8_t>>(pieces.size());
}

int32_t SentencePieceEncoder::find(std::string_view piece) const {
  const int32_t reserved = reserved_.find(piece);
  return reserved != kNone ? reserved : pieces_.find(piece);
}

int32_t SentencePieceEncoder::id_or_unknown(std::string_view piece) const {
  const int32_t id = find(piece);
  return id == kNone ? unknown_id_ : id;
}

Result<void> SentencePieceEncoder::encode(std::string_view text, bool has_dummy_prefix,
                                          std::vector<int32_t>* token_ids) const {
  const std::string normalized = normalizer_.apply(text, has_dummy_prefix);
  if (normalized.size() > INT32_MAX) return invalid_argument("text is too long once normalized");
  Output output(*this, token_ids);
  if (is_bpe_) {
    encode_bpe(normalized, &output);
  } else {
    encode_unigram(normalized, &output);
  }
  return {};
}

}  // namespace sluice::tokenizer
