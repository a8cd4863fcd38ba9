#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/error.h"

namespace sluice::tokenizer {

// The fields of tokenizer_config.json that change ids or text; all others pass.
//
// `clean_up_tokenization_spaces` is not followed: it takes spaces away that the model wrote, and
// needs text that has not come yet.
struct TokenizerConfig {
  struct AddedToken {
    int64_t token_id = 0;
    std::string content;
    bool is_single_word = false;  // as in added_tokens.h
    bool strips_left = false;
    bool strips_right = false;
    bool is_normalized = false;
    bool is_special = false;
  };

  std::string tokenizer_class;  // without a trailing "Fast"; empty if absent
  std::optional<bool> add_bos_token;
  std::optional<bool> add_eos_token;
  std::optional<bool> add_prefix_space;
  std::optional<bool> legacy;  // LLaMA's: a dummy space at each text between special tokens
  std::optional<std::string> bos_token;
  std::optional<std::string> eos_token;
  std::vector<AddedToken> added_tokens;  // added_tokens_decoder, by id
  // Before an id, how messages name an added token.
  std::string added_tokens_name = "tokenizer_config.json: added_tokens_decoder.";
};

// Reads tokenizer_config.json of `folder`; all absent if there is no such file.
// kInvalidArgument names the file and the field.
Result<TokenizerConfig> read_tokenizer_config(const std::filesystem::path& folder);
// The same from the file's text.
Result<TokenizerConfig> parse_tokenizer_config(std::string_view text);

// Folders from before added_tokens_decoder have an added_tokens.json beside their tokenizer.model.
// Takes its tokens, if `config` has none; special are those that special_tokens_map.json names.
// kInvalidArgument names the file and the token.
Result<void> read_added_tokens_file(const std::filesystem::path& folder, TokenizerConfig* config);

}  // namespace sluice::tokenizer
