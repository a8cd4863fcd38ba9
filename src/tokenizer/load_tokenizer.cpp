#include <string>

#include "base/mapped_file.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/sentencepiece_tokenizer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_config.h"

namespace sluice::tokenizer {
namespace {

constexpr size_t kMaxModelBytes = 256 << 20;

using Make = Result<std::unique_ptr<Tokenizer>> (*)(std::string_view, const TokenizerConfig&);

Result<std::unique_ptr<Tokenizer>> load_file(const std::filesystem::path& folder,
                                             const std::string& name, Make make) {
  const auto file = read_file(folder / name, kMaxModelBytes);
  if (!file) return std::unexpected(file.error());
  auto config = read_tokenizer_config(folder);
  if (!config) return std::unexpected(config.error());
  if (make == make_sentencepiece_tokenizer) {  // a tokenizer.json holds its added tokens itself
    if (auto read = read_added_tokens_file(folder, &*config); !read) {
      return std::unexpected(read.error());
    }
  }
  auto tokenizer = make(*file, *config);
  if (tokenizer) return tokenizer;
  const Error& error = tokenizer.error();
  // What does not fit between the two files is told as the configuration's fault.
  const bool names_file = error.message.starts_with("tokenizer_config.json: ") ||
                          error.message.starts_with("added_tokens.json: ");
  return names_file ? fail(error.code, error.message)
                    : fail(error.code, name + ": " + error.message);
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::filesystem::path& folder) {
  auto tokenizer = load_file(folder, "tokenizer.json", make_bpe_tokenizer);
  if (tokenizer || tokenizer.error().code != ErrorCode::kNotFound) return tokenizer;
  tokenizer = load_file(folder, "tokenizer.model", make_sentencepiece_tokenizer);
  if (tokenizer || tokenizer.error().code != ErrorCode::kNotFound) return tokenizer;
  return fail(ErrorCode::kNotFound, "no tokenizer.json and no tokenizer.model in the model folder");
}

}  // namespace sluice::tokenizer
