#include "tokenizer/post_processor.h"

#include "tokenizer/json_fields.h"

namespace sluice::tokenizer {
namespace {

class Reader {
 public:
  explicit Reader(const FindToken& find_token) : find_token_(find_token) {}

  Result<void> read(const Json& json, const std::string& path, int depth) {
    constexpr int kMaxDepth = 8;
    if (!json.is_object()) return invalid_argument(path + " must be an object");
    const JsonFields fields(json, path + ".");
    const std::string type = fields.type();
    if (type == "ByteLevel") {  // moves offsets only
      return fields.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    }
    if (type == "TemplateProcessing") return read_template(fields);
    if (type != "Sequence") return std::unexpected(fields.unsupported("type", type));
    const Json* parts = fields.find("processors");
    if (parts == nullptr || !parts->is_array() || depth >= kMaxDepth) {
      return std::unexpected(fields.wrong_type("processors", "an array"));
    }
    for (size_t i = 0; i < parts->size(); ++i) {
      const std::string name = path + ".processors[" + std::to_string(i) + "]";
      if (auto done = read((*parts)[i], name, depth + 1); !done) return done;
    }
    return fields.only({"type", "processors"});
  }

  SpecialFrame take() { return std::move(frame_); }

 private:
  Result<void> read_template(const JsonFields& fields) {
    const Json* single = fields.find("single");
    const Json* tokens = fields.find("special_tokens");
    if (single == nullptr || !single->is_array()) {
      return std::unexpected(fields.wrong_type("single", "an array"));
    }
    if (tokens != nullptr && !tokens->is_object()) {
      return std::unexpected(fields.wrong_type("special_tokens", "an object"));
    }
    SpecialFrame added;
    int num_texts = 0;
    for (size_t i = 0; i < single->size(); ++i) {
      const std::string name = fields.name_of("single[" + std::to_string(i) + "]");
      const Json& piece = (*single)[i];
      if (!piece.is_object() || piece.size() != 1) {
        return invalid_argument(name + " must be a SpecialToken or a Sequence");
      }
      if (piece.contains("Sequence")) {
        ++num_texts;
        continue;
      }
      auto ids = special_token(piece, tokens, name);
      if (!ids) return std::unexpected(ids.error());
      auto& side = num_texts == 0 ? added.prefix : added.suffix;
      side.insert(side.end(), ids->begin(), ids->end());
    }
    if (num_texts != 1) {
      return fail(ErrorCode::kUnimplemented,
                  fields.name_of("single") + " with not exactly one Sequence is not supported");
    }
    // A later processor's tokens go around an earlier one's.
    frame_.prefix.insert(frame_.prefix.begin(), added.prefix.begin(), added.prefix.end());
    frame_.suffix.insert(frame_.suffix.end(), added.suffix.begin(), added.suffix.end());
    return fields.only({"type", "single", "pair", "special_tokens"});
  }

  Result<std::vector<int32_t>> special_token(const Json& piece, const Json* tokens,
                                             const std::string& name) const {
    const auto token = piece.find("SpecialToken");
    if (token == piece.end() || !token->is_object()) {
      return invalid_argument(name + " must be a SpecialToken or a Sequence");
    }
    const auto id = JsonFields(*token, name + ".SpecialToken.").text("id", "");
    if (!id) return std::unexpected(id.error());
    const auto found = tokens == nullptr ? Json::const_iterator() : tokens->find(*id);
    if (tokens == nullptr || found == tokens->end() || !found->is_object()) {
      return invalid_argument(name + " is not among special_tokens");
    }
    const auto spellings = found->find("tokens");
    if (spellings == found->end() || !spellings->is_array()) {
      return invalid_argument(name + ": its entry in special_tokens lacks tokens");
    }
    std::vector<int32_t> ids;
    for (const Json& spelling : *spellings) {
      const auto token_id =
          spelling.is_string() ? find_token_(spelling.get<std::string>()) : std::nullopt;
      if (!token_id) return invalid_argument(name + " names a token that the file lacks");
      ids.push_back(*token_id);
    }
    return ids;
  }

  const FindToken& find_token_;
  SpecialFrame frame_;
};

}  // namespace

Result<SpecialFrame> read_post_processor(const Json& json, const FindToken& find_token) {
  Reader reader(find_token);
  if (!json.is_null()) {
    if (auto done = reader.read(json, "post_processor", 0); !done) {
      return std::unexpected(done.error());
    }
  }
  return reader.take();
}

std::optional<Result<SpecialFrame>> configured_frame(const TokenizerConfig& config,
                                                     const FindToken& find_token) {
  const std::string& name = config.tokenizer_class;
  const bool is_llama = name == "LlamaTokenizer" || name == "CodeLlamaTokenizer";
  if (!is_llama && name != "GemmaTokenizer") return std::nullopt;
  SpecialFrame frame;
  const auto add = [&](const std::optional<std::string>& token, const char* default_token,
                       std::vector<int32_t>* side) {
    const auto token_id = find_token(token.value_or(default_token));
    if (token_id) side->push_back(*token_id);
    return token_id.has_value();
  };
  const bool has_begin = !config.add_bos_token.value_or(true) ||
                         add(config.bos_token, is_llama ? "<s>" : "<bos>", &frame.prefix);
  const bool has_end = !config.add_eos_token.value_or(false) ||
                       add(config.eos_token, is_llama ? "</s>" : "<eos>", &frame.suffix);
  if (!has_begin || !has_end) {
    return invalid_argument(std::string("tokenizer_config.json: ") +
                            (has_begin ? "add_eos_token" : "add_bos_token") +
                            " asks for a token that tokenizer.json lacks");
  }
  return frame;
}

}  // namespace sluice::tokenizer
