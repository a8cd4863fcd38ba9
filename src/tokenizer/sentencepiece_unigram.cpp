#include <algorithm>

#include "tokenizer/sentencepiece_output.h"

namespace sluice::tokenizer {

// The pieces of the highest sum of scores. Types are the library's: a user-defined piece's score is
// a double, sums are kept as floats.
void SentencePieceEncoder::encode_unigram(std::string_view text, Output* output) const {
  constexpr float kUnknownPenalty = 10;
  // The best way to each end of a piece.
  struct Best {
    int32_t id = kNone;
    float score = 0;
    int32_t begin = -1;
  };
  std::vector<Best> best(text.size() + 1);
  const auto offer = [&](size_t begin, size_t end, int32_t id, auto score) {
    Best& target = best[end];
    if (target.begin == -1 || score > target.score) {
      target = {id, static_cast<float>(score), static_cast<int32_t>(begin)};
    }
  };
  const float unknown_score = lowest_score_ - kUnknownPenalty;
  for (size_t begin = 0; begin < text.size();) {
    const float till_here = best[begin].score;
    const size_t end_of_one = begin + std::min(character_length(text[begin]), text.size() - begin);
    bool has_one = false;
    int32_t node = PieceTrie::kRoot;
    for (size_t end = begin; end < text.size();) {
      node = trie_.child(node, text[end++]);
      if (node == PieceTrie::kNone) break;
      const int32_t id = trie_.id(node);
      if (id == PieceTrie::kNone || type(id) == PieceType::kUnused) continue;
      if (type(id) == PieceType::kUserDefined) {
        const float bonus = static_cast<float>(end - begin) * highest_score_;
        offer(begin, end, id, static_cast<double>(bonus) - 0.1 + static_cast<double>(till_here));
      } else {
        offer(
            begin, end, id,
            static_cast<double>(scores_[static_cast<size_t>(id)]) + static_cast<double>(till_here));
      }
      has_one = has_one || end == end_of_one;
    }
    if (!has_one) offer(begin, end_of_one, unknown_id_, unknown_score + till_here);
    begin = end_of_one;
  }
  // Backwards, then in order.
  std::vector<int32_t> ends;
  for (auto end = static_cast<int32_t>(text.size()); end > 0;
       end = best[static_cast<size_t>(end)].begin) {
    ends.push_back(end);
  }
  for (size_t i = ends.size(); i-- > 0;) {
    const Best& last = best[static_cast<size_t>(ends[i])];
    const auto begin = static_cast<size_t>(last.begin);
    output->add(text.substr(begin, static_cast<size_t>(ends[i]) - begin), last.id);
  }
}

}  // namespace sluice::tokenizer
