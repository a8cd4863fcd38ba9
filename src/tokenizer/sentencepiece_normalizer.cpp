#include "tokenizer/sentencepiece_normalizer.h"

#include <cstring>
#include <utility>

#include "base/utf8.h"

namespace sluice::tokenizer {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581
constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

PieceTrie user_defined_pieces(const SentencePieceModel& model) {
  std::vector<std::pair<std::string_view, int32_t>> symbols;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    if (model.pieces[i].type == SentencePieceModel::PieceType::kUserDefined) {
      symbols.emplace_back(model.pieces[i].text, static_cast<int32_t>(i));
    }
  }
  return PieceTrie(std::move(symbols));
}

// darts-clone's units.
size_t offset_of(uint32_t unit) {
  return static_cast<size_t>(unit >> 10) << ((unit & (1U << 9)) >> 6);
}
bool has_leaf(uint32_t unit) {
  return (unit & (1U << 8)) != 0;
}
uint32_t label_of(uint32_t unit) {
  return unit & ((1U << 31) | 0xFF);
}
uint32_t value_of(uint32_t unit) {
  return unit & 0x7FFFFFFF;
}

}  // namespace

SentencePieceNormalizer::SentencePieceNormalizer(const SentencePieceModel& model)
    : user_defined_(user_defined_pieces(model)), removes_spaces_(model.remove_extra_whitespaces) {
  std::string_view map = model.character_map;  // checked by read_sentencepiece_model
  if (map.empty()) return;
  uint32_t trie_bytes = 0;
  std::memcpy(&trie_bytes, map.data(), sizeof(trie_bytes));
  map.remove_prefix(sizeof(trie_bytes));
  map_.resize(trie_bytes / sizeof(uint32_t));
  std::memcpy(map_.data(), map.data(), trie_bytes);
  strings_ = map.substr(trie_bytes);
}

// Bytes of the longest sequence that the map has at the start of `text`; 0 if there is none.
size_t SentencePieceNormalizer::mapped_prefix(std::string_view text, size_t* string_offset) const {
  size_t longest = 0;
  size_t at = offset_of(map_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    at ^= byte;
    const uint32_t unit = map_[at];
    if (label_of(unit) != byte) break;
    at ^= offset_of(unit);
    if (has_leaf(unit)) {
      longest = i + 1;
      *string_offset = value_of(map_[at]);
    }
  }
  return longest;
}

SentencePieceNormalizer::Head SentencePieceNormalizer::head(std::string_view text) const {
  if (!user_defined_.is_empty()) {
    const size_t length = user_defined_.longest_prefix(text);
    if (length > 0) return {text.substr(0, length), length};
  }
  size_t string_offset = 0;
  const size_t mapped = map_.empty() ? 0 : mapped_prefix(text, &string_offset);
  if (mapped > 0) return {std::string_view(strings_.data() + string_offset), mapped};
  // Only behind a map's entry that ends inside a character is there anything else than one.
  const Utf8Head character = read_utf8_head(text);
  if (character.kind != Utf8Head::Kind::kCharacter) return {kReplacementCharacter, 1};
  return {text.substr(0, character.length), character.length};
}

std::string SentencePieceNormalizer::apply(std::string_view text, bool has_dummy_prefix) const {
  std::string normalized;
  while (removes_spaces_ && !text.empty()) {
    const Head first = head(text);
    if (first.text != " ") break;
    text.remove_prefix(first.length);
  }
  if (text.empty()) return normalized;
  normalized.reserve(text.size() + text.size() / 2 + kSpaceSymbol.size());
  if (has_dummy_prefix) normalized += kSpaceSymbol;
  bool is_behind_space = removes_spaces_;
  while (!text.empty()) {
    Head next = head(text);
    text.remove_prefix(next.length);
    while (is_behind_space && next.text.starts_with(' ')) next.text.remove_prefix(1);
    if (next.text.empty()) continue;
    for (const char c : next.text) {
      if (c == ' ') {
        normalized += kSpaceSymbol;
      } else {
        normalized += c;
      }
    }
    is_behind_space = removes_spaces_ && next.text.ends_with(' ');
  }
  while (removes_spaces_ && normalized.ends_with(kSpaceSymbol)) {
    normalized.resize(normalized.size() - kSpaceSymbol.size());
  }
  return normalized;
}

}  // namespace sluice::tokenizer
