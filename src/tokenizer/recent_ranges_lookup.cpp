#include <algorithm>
#include <bitset>
#include <cstdio>

#include "base/utf8.h"
#include "tokenizer/recent_characters.h"

namespace sluice::tokenizer {
namespace {

constexpr int kBlockShift = 8;
using BlockSet = std::bitset<(0x110000 >> kBlockShift)>;

// The blocks of 256 characters that have a recent one: almost no text has any of those.
const BlockSet& recent_blocks() {
  static const BlockSet kBlocks = [] {
    BlockSet blocks;
    for (const RecentRange& range : recent_ranges()) {
      for (char32_t block = range.first >> kBlockShift; block <= range.last >> kBlockShift;
           ++block) {
        blocks.set(block);
      }
    }
    return blocks;
  }();
  return kBlocks;
}

template <typename Range>
const Range* find_range(std::span<const Range> ranges, char32_t character) {
  const auto found =
      std::lower_bound(ranges.begin(), ranges.end(), character,
                       [](const Range& range, char32_t wanted) { return range.last < wanted; });
  return found == ranges.end() || character < found->first ? nullptr : &*found;
}

}  // namespace

const RecentRange* find_recent_range(char32_t character) {
  if (!recent_blocks().test(character >> kBlockShift)) return nullptr;
  return find_range(recent_ranges(), character);
}

bool is_unordered_mark(char32_t character) {
  return find_range(unordered_mark_ranges(), character) != nullptr;
}

bool has_recent_characters(std::string_view text) {
  const char32_t first = recent_ranges().front().first;
  for (size_t pos = 0; pos < text.size();) {
    size_t length = 0;
    const char32_t character = decode_utf8_character(text.substr(pos), &length);
    if (character >= first && find_recent_range(character) != nullptr) return true;
    pos += length;
  }
  return false;
}

std::string recent_class_members(std::string_view category) {
  std::string members;
  for (const RecentRange& range : recent_ranges()) {
    if (!std::string_view(range.category).starts_with(category)) continue;
    char buffer[32];
    std::snprintf(buffer, sizeof(buffer), "\\x{%X}-\\x{%X}", static_cast<unsigned>(range.first),
                  static_cast<unsigned>(range.last));
    members += buffer;
  }
  return members;
}

}  // namespace sluice::tokenizer
