#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/error.h"

namespace sluice::tokenizer {

// Text to token ids and back, for one vocabulary.
//
// Immutable after loading. Threads: any.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Token ids of `text`, the same as the reference library's (sentencepiece, Hugging Face
  // tokenizers). Special tokens spelled in `text` are plain text. `add_special_tokens` adds what
  // the tokenizer's files say (for LLaMA the begin token, for BLOOM nothing).
  // kInvalidArgument if `text` is not well-formed UTF-8.
  virtual Result<std::vector<int32_t>> encode(std::string_view text,
                                              bool add_special_tokens) const = 0;

  // Text of the ids, ill-formed parts as U+FFFD. Requires: every id in [0, vocabulary_size()).
  virtual std::string decode(std::span<const int32_t> token_ids,
                             bool skip_special_tokens) const = 0;

  // The bytes that one id stands for inside a text (a part of a character, perhaps). The joined
  // bytes of ids are the decoded text's bytes, but for what the decoder does at the very start
  // (a dummy space, for example), which `at_start` asks for.
  virtual std::string token_bytes(int32_t token_id, bool at_start) const = 0;

  virtual bool is_special(int32_t token_id) const = 0;
  virtual int32_t vocabulary_size() const = 0;
};

// Loads the tokenizer of a model folder or package: tokenizer.model (SentencePiece) or
// tokenizer.json, with tokenizer_config.json beside it if there is one. kNotFound if there is
// neither; kInvalidArgument names the file and the first thing in it that is wrong or unsupported.
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::filesystem::path& folder);

}  // namespace sluice::tokenizer
