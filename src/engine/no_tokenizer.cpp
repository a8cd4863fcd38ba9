#include "engine/tokenizer_loader.h"

namespace sluice::engine {

Result<std::unique_ptr<tokenizer::Tokenizer>> load_model_tokenizer(const std::filesystem::path&,
                                                                   int32_t) {
  return nullptr;
}

Result<std::unique_ptr<ChatRenderer>> load_model_chat(const std::filesystem::path&,
                                                      const tokenizer::Tokenizer&) {
  return fail(ErrorCode::kNotFound, "this build has no chat templates");
}

}  // namespace sluice::engine
