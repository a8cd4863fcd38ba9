#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "sluice/error.h"
#include "tokenizer/string_index.h"

namespace sluice::tokenizer {

// The "vocab" and "merges" of a tokenizer.json, as they are spelled there. They are nearly all of
// the file, so they are taken while it is scanned and never become JSON values.
struct Vocabulary {
  struct Token {
    uint32_t offset = 0;  // of its spelling in `texts`
    uint32_t length = 0;
    int32_t token_id = 0;  // 0..kMaxTokenId
  };
  struct Merge {
    uint32_t offset = 0;  // of the left part's spelling in `texts`; the right part's follows it
    uint32_t left_length = 0;
    uint32_t right_length = 0;
  };
  std::vector<Token> tokens;  // in the file's order
  std::vector<Merge> merges;  // by rank
  std::string texts;
  StringIndex ids{0};  // of `tokens`, by spelling

  std::string_view text(const Token& token) const {
    return std::string_view(texts).substr(token.offset, token.length);
  }
  std::string_view left(const Merge& merge) const {
    return std::string_view(texts).substr(merge.offset, merge.left_length);
  }
  std::string_view right(const Merge& merge) const {
    return std::string_view(texts).substr(merge.offset + merge.left_length, merge.right_length);
  }
  std::string_view whole(const Merge& merge) const {
    return std::string_view(texts).substr(merge.offset, merge.left_length + merge.right_length);
  }
  // ids.find(spelling), without a search if it is the token of `guess` and the file is in order of
  // ids: merges follow one another as the tokens that they make do.
  int32_t find_near(std::string_view spelling, int32_t guess) const;
};

struct TokenizerFile {
  Json json;  // all the rest; model.vocab and model.merges are there, but empty
  Vocabulary vocabulary;
};

// Reads the text of a tokenizer.json, which must be shorter than 4 GiB. kInvalidArgument if it is
// not JSON, has a key twice, or names the token id or the merge that is malformed. A vocab that is
// no object and merges that are no array stay in `json`.
Result<TokenizerFile> read_tokenizer_file(std::string_view text);

}  // namespace sluice::tokenizer
