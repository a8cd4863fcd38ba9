#include "engine/tokenizer_loader.h"

namespace sluice::engine {

Result<std::unique_ptr<tokenizer::Tokenizer>> load_model_tokenizer(
    const std::filesystem::path& folder, int32_t vocabulary_size) {
  auto loaded = tokenizer::load_tokenizer(folder);
  if (!loaded) {
    if (loaded.error().code == ErrorCode::kNotFound) return nullptr;
    return loaded;
  }
  if (auto fits = tokenizer::check_vocabulary_size(**loaded, vocabulary_size); !fits) {
    return std::unexpected(fits.error());
  }
  return loaded;
}

}  // namespace sluice::engine
