#include "engine/tokenizer_loader.h"

#include <utility>

#include "base/json.h"  // ModelChat holds some
#include "engine/model_chat.h"

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

Result<std::unique_ptr<ChatRenderer>> load_model_chat(const std::filesystem::path& folder,
                                                      const tokenizer::Tokenizer& tokenizer) {
  auto chat = tokenizer::load_chat_template(folder);
  if (!chat) return std::unexpected(chat.error());
  return make_chat_renderer(std::move(*chat), tokenizer);
}

}  // namespace sluice::engine
