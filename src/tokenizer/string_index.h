#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::tokenizer {

// Strings to token ids: an open-addressing hash table over one block of memory, because a
// vocabulary is looked up once per word and std::unordered_map misses the cache twice as often.
//
// Threads: any, once filled.
class StringIndex final {
 public:
  static constexpr int32_t kNone = -1;

  // Requires: at most `max_strings` are inserted. `num_bytes` of them together are made room for.
  explicit StringIndex(size_t max_strings, size_t num_bytes = 0);

  // False if `key` is there already; nothing changed.
  bool insert(std::string_view key, int32_t token_id);
  int32_t find(std::string_view key) const;  // kNone if it is absent
  // Brings the place of `key` near, for a call that comes a little later: of many lookups in a row
  // most of the time is waiting for memory.
  void prefetch(std::string_view key) const;

 private:
  struct Slot {
    uint32_t hash = 0;
    uint32_t offset = 0;
    uint32_t length = 0;
    int32_t token_id = kNone;
  };
  // The slot that holds `key`, or the empty one where it would go.
  size_t locate(std::string_view key, uint32_t hash) const;

  std::vector<Slot> slots_;  // a power of two, at most half full
  std::string arena_;
};

}  // namespace sluice::tokenizer
