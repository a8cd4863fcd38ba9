#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
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

  // Token ids of a text in which special tokens are spelled out, such as a rendered chat: each is
  // read as its id, and nothing is added around. The same ids as the reference library's with
  // add_special_tokens=False. `plain_at` holds byte offsets, ascending: a special token that is
  // spelled over one of them is plain text.
  // kInvalidArgument as encode; kUnimplemented if this tokenizer cannot follow `plain_at`, because
  // its file looks for special tokens in normalized text.
  virtual Result<std::vector<int32_t>> encode_with_special_tokens(
      std::string_view text, std::span<const size_t> plain_at) const = 0;

  // Byte offsets, ascending, at which the spelling of a special token begins.
  virtual std::vector<size_t> find_special_tokens(std::string_view text) const = 0;

  // Text of the ids, ill-formed parts as U+FFFD (see utf8_repair). Ids that no token has give no
  // text, because a model's vocabulary may be padded beyond the tokenizer's.
  virtual std::string decode(std::span<const int32_t> token_ids,
                             bool skip_special_tokens) const = 0;

  // The bytes that one id stands for inside a text (a part of a character, perhaps). The joined
  // bytes of ids are the decoded text's bytes, but for what the decoder does at the very start
  // (a dummy space, for example), which `at_start` asks for.
  virtual std::string token_bytes(int32_t token_id, bool at_start) const = 0;

  // True if what follows `token_id` is still at the start of the text when the id itself was:
  // an id without a token, or a space that the decoder drops.
  virtual bool stays_at_start(int32_t token_id) const = 0;

  // How many U+FFFD decode writes for ill-formed bytes.
  virtual Utf8Repair utf8_repair() const { return Utf8Repair::kMaximalSubpart; }

  // True for control tokens (begin, end, padding, chat markers), which decode may leave out.
  virtual bool is_special(int32_t token_id) const = 0;

  // One more than the highest id.
  virtual int32_t vocabulary_size() const = 0;
};

// Loads the tokenizer of a model folder or package: tokenizer.json if there is one (as
// Transformers does), else tokenizer.model (SentencePiece), with tokenizer_config.json beside it.
// kNotFound if there is neither; kInvalidArgument names the file and the first thing in it that is
// wrong, kUnimplemented the first that is right but not supported.
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::filesystem::path& folder);

// What every encode refuses: kInvalidArgument if `text` is not well-formed UTF-8 (the first wrong
// byte's offset is named) or longer than 1 GiB.
Result<void> check_text(std::string_view text);

// Compares the tokenizer's size with the model's. A model may have more rows than there are tokens
// (padding), but every token needs a row: kInvalidArgument with both numbers if one has none.
Result<void> check_vocabulary_size(const Tokenizer& tokenizer, int64_t model_vocabulary_size);

}  // namespace sluice::tokenizer
