#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::tokenizer {

// Strings to ids as a double array: one read of memory a byte when walking along a text.
//
// Immutable. Threads: any.
// Source: Aoe 1989, "An efficient digital search algorithm by using a double-array structure".
class PieceTrie final {
 public:
  static constexpr int32_t kNone = -1;
  static constexpr int32_t kRoot = 0;

  // Requires: no string is empty or stands twice; ids are not negative.
  explicit PieceTrie(std::vector<std::pair<std::string_view, int32_t>> strings = {});

  // The node that `byte` leads to; kNone if no string goes on so.
  int32_t child(int32_t node, char byte) const {
    const int32_t next = units_[static_cast<size_t>(node)].base + static_cast<uint8_t>(byte);
    return units_[static_cast<size_t>(next)].parent == node ? next : kNone;
  }
  // The id of the string that ends at `node`; kNone if none does.
  int32_t id(int32_t node) const { return units_[static_cast<size_t>(node)].id; }
  // Bytes of the longest string that `text` starts with; 0 if there is none.
  size_t longest_prefix(std::string_view text) const;
  bool is_empty() const { return units_[kRoot].base == 0; }

 private:
  struct Unit {
    int32_t base = 0;  // where the children's units begin: theirs is at base + byte
    int32_t parent = kNone;
    int32_t id = kNone;
  };
  class Builder;

  std::vector<Unit> units_;  // 256 behind the last base are there too
};

}  // namespace sluice::tokenizer
