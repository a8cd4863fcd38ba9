// config.json and tokenizer_config.json of a model's folder.
#include <array>
#include <string>

#include "model/config_file.h"
#include "tests/fuzz/driver.h"
#include "tokenizer/tokenizer_config.h"

namespace sluice::fuzz {

std::span<const std::string_view> dictionary() {
  static constexpr std::array<std::string_view, 36> kWords = {
      R"("vocab_size":)",
      R"("num_hidden_layers":)",
      R"("rms_norm_eps":)",
      R"("tie_word_embeddings":)",
      R"("model_type":)",
      R"("architectures":["LlamaForCausalLM"])",
      R"("eos_token_id":[1,2])",
      R"("eos_token_id":)",
      R"("rope_scaling":{"factor":8,"rope_type":"llama3"})",
      R"("rope_scaling.factor":4)",
      R"("rope_scaling":null)",
      R"("tokenizer_class":"LlamaTokenizerFast")",
      R"("add_bos_token":)",
      R"("add_eos_token":)",
      R"("add_prefix_space":)",
      R"("legacy":)",
      R"("bos_token":)",
      R"("eos_token":{"content":"</s>"})",
      R"("added_tokens_decoder":{"01":{"content":"<s>","special":true}})",
      R"("lstrip":true)",
      R"("rstrip":true)",
      R"("single_word":true)",
      R"("normalized":true)",
      R"("":)",
      "\xC3\xA9",
      "16777216",
      "16777217",
      "1e5",
      "null",
      "true",
      "{}",
      "[]",
      "{",
      "}",
      ",",
      "\"\""};
  return kWords;
}

namespace {

template <typename T>
void require_reason(const Result<T>& result) {
  if (result) return;
  require(result.error().message.starts_with("config.json: "), "a refusal names the file");
}

// A field of the file's top level is what its JSON says.
template <typename T>
void require_value(const Result<T>& read, const Json& json, const std::string& name,
                   bool has_type) {
  require_reason(read);
  const bool is_there = json.contains(name) && !json[name].is_null() && !json[name].is_object();
  require(read.has_value() == (is_there && has_type), "a field of another type is refused");
  if (read) require(json[name] == *read, "a field has its value");
}

void read_model_config(std::string_view text) {
  const auto config = model::ConfigFile::parse(text, "config.json");
  require_reason(config);
  if (!config) return;
  const Json json = *parse_json(text);
  for (const std::string name : {"vocab_size", "num_hidden_layers", "rms_norm_eps", "model_type",
                                 "tie_word_embeddings", "eos_token_id", "rope_scaling"}) {
    const Json value = json.value(name, Json());
    const bool fits = !value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX;
    require_value(config->integer(name, {}), json, name, value.is_number_integer() && fits);
    require_value(config->number(name, {}), json, name, value.is_number());
    require_value(config->flag(name, {}), json, name, value.is_boolean());
    require_value(config->text(name, {}), json, name, value.is_string());
    require_reason(config->texts(name));
    require_reason(config->expect(name, {"llama", "null"}));
    const auto count = config->count(name, 1);
    require_reason(count);
    require(!count || (*count >= 1 && *count <= 1 << 24), "a count is in its range");
    const auto token_ids = config->token_ids(name);
    require_reason(token_ids);
    for (const int32_t token_id : token_ids.value_or(std::vector<int32_t>())) {
      require(token_id >= 0, "a token id is not negative");
    }
    require(!config->is_null(name) || !config->has(name) || json[name].is_null(),
            "null is no value");
  }
}

void read_tokenizer_config(std::string_view text) {
  const auto config = tokenizer::parse_tokenizer_config(text);
  if (!config) {
    require(config.error().message.starts_with("tokenizer_config.json: "),
            "a refusal names the file");
    return;
  }
  const Json json = *parse_json(text);
  const auto is_same = [&](const std::optional<bool>& flag, const char* name) {
    const Json value = json.value(name, Json());
    return flag ? value == *flag : value.is_null();
  };
  require(is_same(config->add_bos_token, "add_bos_token") &&
              is_same(config->add_eos_token, "add_eos_token") &&
              is_same(config->add_prefix_space, "add_prefix_space") &&
              is_same(config->legacy, "legacy"),
          "a flag has its value");
  const Json tokens = json.value("added_tokens_decoder", Json());
  require(config->added_tokens.size() == tokens.size(), "every token is there");
  auto token = config->added_tokens.begin();
  for (const auto& [token_id, entry] : tokens.items()) {
    require(std::stoll(token_id) == token->token_id, "a token has its id");
    const Json content = entry.value("content", Json());
    require(content.is_null() ? token->content.empty() : content == token->content,
            "a token has its spelling");
    ++token;
  }
}

}  // namespace
}  // namespace sluice::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = sluice::fuzz::as_text(data, size);
  sluice::fuzz::read_model_config(text);
  sluice::fuzz::read_tokenizer_config(text);
  return 0;
}
