#pragma once

#include <memory>
#include <string_view>

#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_config.h"

namespace sluice::tokenizer {

// A tokenizer from the bytes of a SentencePiece tokenizer.model.
//
// A begin token is added unless `config` says no, an end token only if it says so. Decoded text is
// sentencepiece's, but an unknown piece is left out as a special token, or spelled ("<unk>").
// Errors say what is wrong, without the file's name.
Result<std::unique_ptr<Tokenizer>> make_sentencepiece_tokenizer(std::string_view model_file,
                                                                const TokenizerConfig& config);

}  // namespace sluice::tokenizer
