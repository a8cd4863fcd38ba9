#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "sluice/error.h"
#include "tokenizer/tokenizer_config.h"

namespace sluice::tokenizer {

// The special tokens that go around a text.
struct SpecialFrame {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
};

// The id of a token by its spelling in the file.
using FindToken = std::function<std::optional<int32_t>(const std::string&)>;

// From the file's "post_processor" (null: none). kUnimplemented names what is not supported: all
// types but ByteLevel (which changes no ids), TemplateProcessing and Sequence.
Result<SpecialFrame> read_post_processor(const Json& json, const FindToken& find_token);

// Tokenizers of some classes take add_bos_token and add_eos_token of tokenizer_config.json instead
// of the file's post_processor, as Transformers does for LLaMA's and Gemma's. Nothing for others.
std::optional<Result<SpecialFrame>> configured_frame(const TokenizerConfig& config,
                                                     const FindToken& find_token);

}  // namespace sluice::tokenizer
