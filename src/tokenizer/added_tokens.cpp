#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/token_table.h"
#include "tokenizer/unicode_forms.h"

namespace sluice::tokenizer {
namespace {

constexpr size_t kMaxContentBytes = 256;  // bounds the work per byte of text

size_t previous_character(std::string_view text, size_t end) {
  do --end;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80);
  return end;
}

bool ends_with_word(std::string_view text) {
  if (text.empty()) return false;
  size_t length = 0;
  return is_word_character(
      decode_utf8_character(text.substr(previous_character(text, text.size())), &length));
}

bool starts_with_word(std::string_view text) {
  size_t length = 0;
  return !text.empty() && is_word_character(decode_utf8_character(text, &length));
}

// Where the white space at the end of text[least, end) begins.
size_t skip_space_left(std::string_view text, size_t least, size_t end) {
  while (end > least) {
    const size_t before = previous_character(text, end);
    size_t length = 0;
    if (!is_white_space(decode_utf8_character(text.substr(before), &length))) break;
    end = before;
  }
  return end;
}

size_t skip_space_right(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    size_t length = 0;
    if (!is_white_space(decode_utf8_character(text.substr(begin), &length))) break;
    begin += length;
  }
  return begin;
}

Result<AddedToken> read_added_token(const Json& json, const std::string& path) {
  if (!json.is_object()) return invalid_argument(path + " must be an object");
  const JsonFields fields(json, path + ".");
  AddedToken token;
  const auto id = fields.integer("id");
  if (!id) return std::unexpected(id.error());
  if (*id < 0 || *id > kMaxTokenId) {
    return invalid_argument(path + ".id is " + std::to_string(*id) + ", not in 0.." +
                            std::to_string(kMaxTokenId));
  }
  token.token_id = static_cast<int32_t>(*id);
  auto content = fields.text("content", "");
  if (!content) return std::unexpected(content.error());
  if (content->empty() || content->size() > kMaxContentBytes) {
    return invalid_argument(path + ".content has " + std::to_string(content->size()) +
                            " bytes, not 1..256");
  }
  token.content = std::move(*content);
  for (const auto& [name, flag] :
       {std::pair("single_word", &token.is_single_word), std::pair("lstrip", &token.strips_left),
        std::pair("rstrip", &token.strips_right), std::pair("normalized", &token.is_normalized),
        std::pair("special", &token.is_special)}) {
    const auto value = fields.boolean(name, false);
    if (!value) return std::unexpected(value.error());
    *flag = *value;
  }
  if (auto only = fields.only(
          {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
      !only) {
    return std::unexpected(only.error());
  }
  return token;
}

}  // namespace

Result<std::vector<AddedToken>> read_added_tokens(const Json& json) {
  std::vector<AddedToken> tokens;
  if (json.is_null()) return tokens;
  if (!json.is_array()) return invalid_argument("added_tokens must be an array");
  for (size_t i = 0; i < json.size(); ++i) {
    auto token = read_added_token(json[i], "added_tokens[" + std::to_string(i) + "]");
    if (!token) return std::unexpected(token.error());
    tokens.push_back(std::move(*token));
  }
  return tokens;
}

int32_t AddedTokenMatcher::child(int32_t node, char byte) const {
  const auto key = (static_cast<uint64_t>(node) << 8) | static_cast<uint8_t>(byte);
  const auto found = children_.find(key);
  return found == children_.end() ? kNoToken : found->second;
}

void AddedTokenMatcher::add(const AddedToken& token, std::string_view spelling) {
  if (spelling.empty()) return;
  int32_t node = kRoot;
  for (const char byte : spelling) {
    int32_t next = child(node, byte);
    if (next == kNoToken) {
      next = static_cast<int32_t>(token_at_.size());
      token_at_.push_back(kNoToken);
      children_[(static_cast<uint64_t>(node) << 8) | static_cast<uint8_t>(byte)] = next;
    }
    node = next;
  }
  can_start_[static_cast<uint8_t>(spelling.front())] = true;
  token_at_[static_cast<size_t>(node)] = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
  (token.is_special ? has_special_token_ : has_other_token_) = true;
}

const AddedToken* AddedTokenMatcher::longest_at(std::string_view text, size_t begin,
                                                size_t* length) const {
  const AddedToken* longest = nullptr;
  int32_t node = kRoot;
  for (size_t i = begin; i < text.size(); ++i) {
    node = child(node, text[i]);
    if (node == kNoToken) break;
    const int32_t token_idx = token_at_[static_cast<size_t>(node)];
    if (token_idx == kNoToken) continue;
    longest = &tokens_[static_cast<size_t>(token_idx)];
    *length = i + 1 - begin;
  }
  return longest;
}

bool AddedTokenMatcher::special_starts_at(std::string_view text, size_t begin) const {
  int32_t node = kRoot;
  for (size_t i = begin; i < text.size(); ++i) {
    node = child(node, text[i]);
    if (node == kNoToken) return false;
    const int32_t token_idx = token_at_[static_cast<size_t>(node)];
    if (token_idx != kNoToken && tokens_[static_cast<size_t>(token_idx)].is_special) return true;
  }
  return false;
}

void AddedTokenMatcher::find_special(std::string_view text, std::vector<size_t>* offsets) const {
  if (!has_special_token_) return;
  for (size_t pos = 0; pos < text.size(); ++pos) {
    if (can_start_[static_cast<uint8_t>(text[pos])] && special_starts_at(text, pos)) {
      offsets->push_back(pos);
    }
  }
}

std::vector<AddedTokenMatcher::Segment> AddedTokenMatcher::split(
    std::string_view text, const SpecialTokens& special) const {
  const auto is_plain = [&special](size_t begin, size_t end) {
    if (special.are_plain_text) return true;
    const auto mark = std::ranges::lower_bound(special.plain_at, begin);
    return mark != special.plain_at.end() && *mark < end;
  };
  std::vector<Segment> segments;
  size_t done = 0;
  size_t pos = 0;
  while (pos < text.size()) {
    size_t length = 0;
    const AddedToken* token =
        can_start_[static_cast<uint8_t>(text[pos])] ? longest_at(text, pos, &length) : nullptr;
    if (token == nullptr) {
      ++pos;
      continue;
    }
    size_t begin = pos;
    size_t end = pos + length;
    pos = end;
    if (token->is_special && is_plain(begin, end)) continue;
    if (token->is_single_word &&
        (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) {
      continue;
    }
    if (token->strips_left) begin = skip_space_left(text, std::min(done, begin), begin);
    if (token->strips_right) end = skip_space_right(text, end);
    if (done < begin) segments.push_back({text.substr(done, begin - done), kNoToken});
    segments.push_back({text.substr(begin, end - begin), token->token_id});
    done = end;
  }
  if (done < text.size()) segments.push_back({text.substr(done), kNoToken});
  return segments;
}

}  // namespace sluice::tokenizer
