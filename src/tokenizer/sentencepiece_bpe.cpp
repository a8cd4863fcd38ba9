#include <algorithm>
#include <functional>
#include <unordered_map>
#include <utility>

#include "tokenizer/sentencepiece_output.h"

namespace sluice::tokenizer {
namespace {

constexpr uint32_t kNoRank = UINT32_MAX;
constexpr int32_t kEnd = -1;
constexpr size_t kShortWord = 24;                          // symbols
constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581

}  // namespace

// A text as a linked list of symbols, which merges them: always the pair of the lowest rank, of
// equals the leftmost. Pairs of a long text wait in a heap; entries whose pair has changed
// meanwhile are recognised by their rank and skipped.
class SentencePieceEncoder::BpeWord {
 public:
  explicit BpeWord(const SentencePieceEncoder& encoder) : encoder_(encoder) {}

  void begin(std::string_view text) {
    text_ = text;
    symbols_.clear();
    heap_.clear();
    halves_.clear();
  }

  // The next `length` bytes of the text; a frozen symbol never merges.
  void add(size_t length, bool is_frozen) {
    const auto idx = static_cast<int32_t>(symbols_.size());
    const size_t begin = idx == 0 ? 0 : symbols_.back().begin + symbols_.back().length;
    if (idx > 0) symbols_.back().next = idx;
    symbols_.push_back({begin, length, idx - 1, kEnd, kNoRank, is_frozen});
  }

  void merge() {
    const bool is_short = symbols_.size() <= kShortWord;
    for (int32_t i = 0; i < static_cast<int32_t>(symbols_.size()); ++i) refresh(i, false);
    if (is_short) {
      merge_short();
      return;
    }
    for (int32_t i = 0; i < static_cast<int32_t>(symbols_.size()); ++i) {
      if (at(i).rank != kNoRank) heap_.push_back(entry(i));
    }
    std::ranges::make_heap(heap_, std::greater<>());
    while (!heap_.empty()) {
      std::ranges::pop_heap(heap_, std::greater<>());
      const uint64_t top = heap_.back();
      heap_.pop_back();
      const auto idx = static_cast<int32_t>(top & UINT32_MAX);
      if (at(idx).rank == top >> 32) merge_pair(idx, true);
    }
  }

  // What is left of the text, in order. Pieces that the model does not use fall apart again.
  template <typename F>
  void for_each(F&& call) const {
    for (int32_t i = symbols_.empty() ? kEnd : 0; i != kEnd; i = at(i).next) {
      const std::string_view piece = text_of(at(i).begin, at(i).length);
      if (encoder_.has_unused_) {
        take_apart(piece, call);
      } else {
        call(piece, encoder_.id_or_unknown(piece));
      }
    }
  }

 private:
  struct Symbol {
    size_t begin;
    size_t length;
    int32_t previous;
    int32_t next;
    uint32_t rank;  // of the pair with the next one
    bool is_frozen;
  };

  Symbol& at(int32_t idx) { return symbols_[static_cast<size_t>(idx)]; }
  const Symbol& at(int32_t idx) const { return symbols_[static_cast<size_t>(idx)]; }
  std::string_view text_of(size_t begin, size_t length) const {
    return text_.substr(begin, length);
  }
  uint64_t entry(int32_t idx) const {
    return (static_cast<uint64_t>(at(idx).rank) << 32) | static_cast<uint32_t>(idx);
  }

  void refresh(int32_t idx, bool is_in_heap) {
    Symbol& left = at(idx);
    left.rank = kNoRank;
    if (left.next == kEnd || left.is_frozen || at(left.next).is_frozen) return;
    const size_t length = left.length + at(left.next).length;
    if (length > encoder_.max_piece_bytes_) return;
    const std::string_view piece = text_of(left.begin, length);
    const int32_t id = encoder_.pieces_.find(piece);
    if (id == kNone) return;
    left.rank = encoder_.ranks_[static_cast<size_t>(id)];
    if (encoder_.has_unused_ && encoder_.type(id) == PieceType::kUnused) {
      halves_[piece] = left.length;
    }
    if (!is_in_heap) return;
    heap_.push_back(entry(idx));
    std::ranges::push_heap(heap_, std::greater<>());
  }

  void merge_pair(int32_t idx, bool is_in_heap) {
    Symbol& left = at(idx);
    Symbol& right = at(left.next);
    left.length += right.length;
    left.next = right.next;
    right.rank = kNoRank;
    if (left.next != kEnd) at(left.next).previous = idx;
    if (left.previous != kEnd) refresh(left.previous, is_in_heap);
    refresh(idx, is_in_heap);
  }

  void merge_short() {
    while (!symbols_.empty()) {
      int32_t best = 0;
      for (int32_t i = at(0).next; i != kEnd; i = at(i).next) {
        if (at(i).rank < at(best).rank) best = i;
      }
      if (at(best).rank == kNoRank) return;
      merge_pair(best, false);
    }
  }

  template <typename F>
  void take_apart(std::string_view piece, F& call) const {
    const int32_t id = encoder_.id_or_unknown(piece);
    const auto half = halves_.find(piece);
    if (encoder_.type(id) != PieceType::kUnused || half == halves_.end()) {
      call(piece, id);
      return;
    }
    take_apart(piece.substr(0, half->second), call);
    take_apart(piece.substr(half->second), call);
  }

  const SentencePieceEncoder& encoder_;
  std::string_view text_;
  std::vector<Symbol> symbols_;
  std::vector<uint64_t> heap_;
  // Of pieces that are not used: bytes of the left part that made them last.
  std::unordered_map<std::string_view, size_t> halves_;
};

void SentencePieceEncoder::encode_word(std::string_view word, BpeWord* scratch,
                                       Output* output) const {
  if (word.empty()) return;
  const int32_t whole_id = word.size() > max_piece_bytes_ ? kNone : pieces_.find(word);
  if (whole_id != kNone) {
    const auto& fate = fates_[static_cast<size_t>(whole_id)];
    if (fate.load(std::memory_order_relaxed) == kStaysWhole) {
      output->add(word, whole_id);
      return;
    }
  }
  scratch->begin(word);
  for (size_t pos = 0; pos < word.size();) {
    const size_t length = std::min(character_length(word[pos]), word.size() - pos);
    scratch->add(length, false);
    pos += length;
  }
  scratch->merge();
  int32_t last_id = kNone;
  size_t last_bytes = 0;
  scratch->for_each([&](std::string_view piece, int32_t id) {
    output->add(piece, id);
    last_id = id;
    last_bytes = piece.size();
  });
  if (whole_id == kNone) return;
  const bool is_whole = last_id == whole_id && last_bytes == word.size();
  fates_[static_cast<size_t>(whole_id)].store(is_whole ? kStaysWhole : kFallsApart,
                                              std::memory_order_relaxed);
}

// No piece of most models reaches over the beginning of a word, so words are merged one by one.
void SentencePieceEncoder::encode_bpe(std::string_view text, Output* output) const {
  const bool has_words = !crosses_words_ && !has_unused_;
  const PieceTrie& user_defined = normalizer_.user_defined();
  BpeWord scratch(*this);
  scratch.begin(text);
  size_t word_begin = 0;
  bool is_behind_space = true;
  for (size_t pos = 0; pos < text.size();) {
    const size_t frozen =
        user_defined.is_empty() ? 0 : user_defined.longest_prefix(text.substr(pos));
    const size_t length =
        frozen > 0 ? frozen : std::min(character_length(text[pos]), text.size() - pos);
    if (!has_words) {
      scratch.add(length, frozen > 0);
    } else if (frozen > 0) {
      encode_word(text.substr(word_begin, pos - word_begin), &scratch, output);
      const std::string_view symbol = text.substr(pos, frozen);
      output->add(symbol, id_or_unknown(symbol));
      word_begin = pos + frozen;
      is_behind_space = true;
    } else {
      const bool is_space = text.substr(pos).starts_with(kSpaceSymbol);
      if (is_space && !is_behind_space) {
        encode_word(text.substr(word_begin, pos - word_begin), &scratch, output);
        word_begin = pos;
      }
      is_behind_space = is_space;
    }
    pos += length;
  }
  if (has_words) {
    encode_word(text.substr(word_begin), &scratch, output);
    return;
  }
  scratch.merge();
  scratch.for_each([&](std::string_view piece, int32_t id) { output->add(piece, id); });
}

}  // namespace sluice::tokenizer
