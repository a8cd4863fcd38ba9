#include "tokenizer/token_table.h"

namespace sluice::tokenizer {

void TokenTable::reserve(size_t num_tokens, size_t num_bytes) {
  entries_.reserve(num_tokens);
  arena_.reserve(num_bytes);
}

Result<void> TokenTable::add(int64_t token_id, std::string_view bytes, bool is_special) {
  if (token_id < 0 || token_id > kMaxTokenId) {
    return invalid_argument("token id " + std::to_string(token_id) + " is not in 0.." +
                            std::to_string(kMaxTokenId));
  }
  const auto idx = static_cast<size_t>(token_id);
  if (idx >= entries_.size()) entries_.resize(idx + 1);
  Entry& entry = entries_[idx];
  if (entry.is_present) {
    return invalid_argument("token id " + std::to_string(token_id) + " belongs to two tokens");
  }
  entry = {static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(bytes.size()), true,
           is_special};
  arena_ += bytes;
  return {};
}

const TokenTable::Entry* TokenTable::find(int32_t token_id) const {
  if (token_id < 0 || token_id >= size()) return nullptr;
  const Entry& entry = entries_[static_cast<size_t>(token_id)];
  return entry.is_present ? &entry : nullptr;
}

bool TokenTable::has(int32_t token_id) const {
  return find(token_id) != nullptr;
}

std::string_view TokenTable::bytes(int32_t token_id) const {
  const Entry* entry = find(token_id);
  if (entry == nullptr) return {};
  return std::string_view(arena_).substr(entry->offset, entry->length);
}

bool TokenTable::is_special(int32_t token_id) const {
  const Entry* entry = find(token_id);
  return entry != nullptr && entry->is_special;
}

}  // namespace sluice::tokenizer
