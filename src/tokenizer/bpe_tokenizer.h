#pragma once

#include <memory>
#include <string_view>

#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_config.h"

namespace sluice::tokenizer {

// A tokenizer from the text of a tokenizer.json whose model is byte-pair encoding.
//
// Supported: what the files of BLOOM, GPT-2, LLaMA 2 and 3, Qwen and Mistral use. Anything else is
// refused with the field's name. Ids are those of the reference with encode_special_tokens set:
// special tokens spelled in text are plain text, other added tokens are found.
// Errors say what is wrong, without the file's name.
// Source: Hugging Face tokenizers 0.22.
Result<std::unique_ptr<Tokenizer>> make_bpe_tokenizer(std::string_view json_file,
                                                      const TokenizerConfig& config);

}  // namespace sluice::tokenizer
