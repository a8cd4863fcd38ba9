#include "tokenizer/string_index.h"

#include <bit>
#include <cstring>

namespace sluice::tokenizer {
namespace {

uint32_t hash_of(std::string_view key) {
  constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15ULL;
  uint64_t hash = key.size() * kMultiplier;
  const auto mix = [&](uint64_t word) {
    hash = (hash ^ word) * kMultiplier;
    hash ^= hash >> 32;
  };
  while (key.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, key.data(), sizeof(word));
    mix(word);
    key.remove_prefix(8);
  }
  if (!key.empty()) {
    uint64_t word = 0;
    std::memcpy(&word, key.data(), key.size());
    mix(word);
  }
  return static_cast<uint32_t>(hash ^ (hash >> 29));
}

}  // namespace

StringIndex::StringIndex(size_t max_strings, size_t num_bytes)
    : slots_(std::bit_ceil(max_strings * 2 + 2)) {
  arena_.reserve(num_bytes);
}

size_t StringIndex::locate(std::string_view key, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t idx = hash & mask;
  while (slots_[idx].token_id != kNone) {
    const Slot& slot = slots_[idx];
    if (slot.hash == hash && slot.length == key.size() &&
        std::memcmp(arena_.data() + slot.offset, key.data(), key.size()) == 0) {
      break;
    }
    idx = (idx + 1) & mask;
  }
  return idx;
}

bool StringIndex::insert(std::string_view key, int32_t token_id) {
  const uint32_t hash = hash_of(key);
  Slot& slot = slots_[locate(key, hash)];
  if (slot.token_id != kNone) return false;
  slot = {hash, static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(key.size()), token_id};
  arena_ += key;
  return true;
}

void StringIndex::prefetch(std::string_view key) const {
  __builtin_prefetch(&slots_[hash_of(key) & (slots_.size() - 1)]);
}

int32_t StringIndex::find(std::string_view key) const {
  return slots_[locate(key, hash_of(key))].token_id;
}

}  // namespace sluice::tokenizer
