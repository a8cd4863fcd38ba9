#pragma once

#include <filesystem>
#include <memory>

#include "engine/chat_renderer.h"
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

// The chat template of a model's folder, over its tokenizer, which must outlive it. kNotFound if
// the folder has none; other errors name the file.
Result<std::unique_ptr<ChatRenderer>> load_model_chat(const std::filesystem::path& folder,
                                                      const tokenizer::Tokenizer& tokenizer);

}  // namespace sluice::engine
