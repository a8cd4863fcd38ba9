#include "tokenizer/piece_trie.h"

#include <algorithm>

namespace sluice::tokenizer {

// Places nodes breadth-first, each at the first base where all of its children find room.
class PieceTrie::Builder {
 public:
  using Strings = std::vector<std::pair<std::string_view, int32_t>>;

  Builder(const Strings& strings, std::vector<Unit>* units) : strings_(strings), units_(*units) {
    grow(1 + kMaxLabels);
    is_used_[kRoot] = true;
    pending_.push_back({kRoot, 0, 0, strings.size()});
    for (size_t i = 0; i < pending_.size(); ++i) place(pending_[i]);
    units_.shrink_to_fit();
  }

 private:
  static constexpr size_t kMaxLabels = 256;
  static constexpr int kMaxTries = 16;  // at one free unit before the search leaves it behind

  // strings_[begin, end) share their first `depth` bytes, which lead to `node`.
  struct Range {
    int32_t node;
    size_t depth;
    size_t begin;
    size_t end;
  };

  void grow(size_t size) {
    if (size <= units_.size()) return;
    units_.resize(std::max(size, units_.size() * 3 / 2));
    is_used_.resize(units_.size(), false);
  }

  void place(Range range) {
    if (range.begin < range.end && strings_[range.begin].first.size() == range.depth) {
      units_[static_cast<size_t>(range.node)].id = strings_[range.begin++].second;
    }
    children_.clear();
    for (size_t i = range.begin; i < range.end;) {
      const char label = strings_[i].first[range.depth];
      size_t end = i;
      while (end < range.end && strings_[end].first[range.depth] == label) ++end;
      children_.push_back(
          {static_cast<int32_t>(static_cast<uint8_t>(label)), range.depth + 1, i, end});
      i = end;
    }
    if (children_.empty()) return;
    const auto base = find_base();
    units_[static_cast<size_t>(range.node)].base = base;
    for (Range child : children_) {
      child.node += base;
      is_used_[static_cast<size_t>(child.node)] = true;
      units_[static_cast<size_t>(child.node)].parent = range.node;
      pending_.push_back(child);
    }
  }

  // A base, at least 1, with room for the labels that children_ hold in place of nodes.
  int32_t find_base() {
    const auto first = static_cast<size_t>(children_.front().node);
    size_t at = std::max(first_free_, first + 1);
    while (true) {
      grow(at + 2 * kMaxLabels);
      if (!is_used_[at]) {
        const size_t base = at - first;
        const bool fits = std::ranges::none_of(children_, [&](const Range& child) {
          return is_used_[base + static_cast<size_t>(child.node)];
        });
        if (fits) return static_cast<int32_t>(base);
        // A place where nothing fits time after time is given up, so that the search stays short.
        if (at == first_free_ && ++tries_ > kMaxTries) leave_first_free();
      } else if (at == first_free_) {
        leave_first_free();
      }
      ++at;
    }
  }

  void leave_first_free() {
    ++first_free_;
    tries_ = 0;
  }

  const Strings& strings_;
  std::vector<Unit>& units_;
  std::vector<bool> is_used_;
  std::vector<Range> pending_;
  std::vector<Range> children_;
  size_t first_free_ = 1;
  int tries_ = 0;
};

PieceTrie::PieceTrie(std::vector<std::pair<std::string_view, int32_t>> strings) {
  std::ranges::sort(strings);
  // Of equal strings the lowest id stays.
  const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
  strings.erase(std::unique(strings.begin(), strings.end(), same), strings.end());
  Builder(strings, &units_);
}

size_t PieceTrie::longest_prefix(std::string_view text) const {
  size_t longest = 0;
  int32_t node = kRoot;
  for (size_t i = 0; i < text.size(); ++i) {
    node = child(node, text[i]);
    if (node == kNone) break;
    if (id(node) != kNone) longest = i + 1;
  }
  return longest;
}

}  // namespace sluice::tokenizer
