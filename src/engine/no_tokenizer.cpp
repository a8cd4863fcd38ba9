#include "engine/tokenizer_loader.h"

namespace sluice::engine {

Result<std::unique_ptr<tokenizer::Tokenizer>> load_model_tokenizer(const std::filesystem::path&,
                                                                   int32_t) {
  return nullptr;
}

}  // namespace sluice::engine
