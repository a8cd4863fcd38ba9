#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/error.h"

namespace sluice::tokenizer {

// Ids above this are refused, so that one wrong number in a file cannot ask for all the memory.
inline constexpr int64_t kMaxTokenId = (1 << 22) - 1;

// The bytes and kind of every id, in one block of memory.
//
// Immutable once filled. Threads: any.
class TokenTable final {
 public:
  // Makes room for tokens and their bytes together.
  void reserve(size_t num_tokens, size_t num_bytes);

  // Adds the token of `token_id`. kInvalidArgument if the id is out of range or taken already.
  Result<void> add(int64_t token_id, std::string_view bytes, bool is_special);

  bool has(int32_t token_id) const;
  // Empty for an id that no token has.
  std::string_view bytes(int32_t token_id) const;
  bool is_special(int32_t token_id) const;
  void mark_special(int32_t token_id) { entries_[static_cast<size_t>(token_id)].is_special = true; }
  // One more than the highest id.
  int32_t size() const { return static_cast<int32_t>(entries_.size()); }

 private:
  struct Entry {
    uint32_t offset = 0;
    uint32_t length = 0;
    bool is_present = false;
    bool is_special = false;
  };
  const Entry* find(int32_t token_id) const;

  std::vector<Entry> entries_;
  std::string arena_;
};

}  // namespace sluice::tokenizer
