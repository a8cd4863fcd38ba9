#pragma once

#include <filesystem>
#include <memory>

#include "sluice/error.h"
#include "tokenizer/tokenizer.h"

namespace sluice::engine {

// The tokenizer of a model's folder, checked against its vocabulary; null if the folder has none.
//
// Two definitions, of which a build links one: tokenizer_loader.cpp with the tokenizers, and
// no_tokenizer.cpp for the core without them (SLUICE_SERVER=OFF), where models take and give token
// ids only.
Result<std::unique_ptr<tokenizer::Tokenizer>> load_model_tokenizer(
    const std::filesystem::path& folder, int32_t vocabulary_size);

}  // namespace sluice::engine
