#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "sluice/error.h"

namespace sluice::tokenizer {

// One entry of "added_tokens" in a tokenizer.json.
struct AddedToken {
  int32_t token_id = 0;
  std::string content;
  bool is_single_word = false;  // only where no word character stands beside it
  bool strips_left = false;     // takes the white space before it
  bool strips_right = false;    // and after it
  bool is_normalized = false;   // is looked for in normalized text
  bool is_special = false;
};

// The file's "added_tokens" (null: none). Errors name the field.
Result<std::vector<AddedToken>> read_added_tokens(const Json& json);

// What a search does with the special ones among the added tokens.
struct SpecialTokens {
  bool are_plain_text = true;
  std::span<const size_t> plain_at;  // ascending offsets; those spelled over one are plain text
};

// Finds added tokens in text.
//
// Finds the leftmost longest of all tokens first and passes over the special ones that are plain
// text then, as the reference does with encode_special_tokens.
// Threads: any, once filled.
class AddedTokenMatcher final {
 public:
  static constexpr int32_t kNoToken = -1;
  struct Segment {
    std::string_view text;
    int32_t token_id = kNoToken;
  };

  void add(const AddedToken& token, std::string_view spelling);
  // True if split() would never find a token.
  bool is_idle(const SpecialTokens& special) const {
    return !has_other_token_ && (special.are_plain_text || !has_special_token_);
  }
  bool has_special_token() const { return has_special_token_; }
  // `text` in order, without empty segments.
  std::vector<Segment> split(std::string_view text, const SpecialTokens& special) const;
  // Adds the offsets at which a special token is spelled, whether or not split() would see it.
  void find_special(std::string_view text, std::vector<size_t>* offsets) const;

 private:
  static constexpr int32_t kRoot = 0;
  int32_t child(int32_t node, char byte) const;  // kNoToken if there is none
  // The longest token that starts at `begin`; nullptr if none does.
  const AddedToken* longest_at(std::string_view text, size_t begin, size_t* length) const;
  bool special_starts_at(std::string_view text, size_t begin) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<uint64_t, int32_t> children_;  // (node, byte) to node
  std::vector<int32_t> token_at_{kNoToken};         // node to index in tokens_
  std::array<bool, 256> can_start_{};
  bool has_other_token_ = false;  // one that is not special
  bool has_special_token_ = false;
};

}  // namespace sluice::tokenizer
