#include "tokenizer/tokenizer_config.h"

#include <charconv>
#include <set>
#include <utility>

#include "base/mapped_file.h"
#include "tokenizer/json_fields.h"

namespace sluice::tokenizer {
namespace {

constexpr std::string_view kFileName = "tokenizer_config.json";
constexpr std::string_view kAddedTokensName = "added_tokens.json";
constexpr std::string_view kTokensMapName = "special_tokens_map.json";
constexpr size_t kMaxFileBytes = 16 << 20;

Result<std::optional<bool>> optional_boolean(const JsonFields& fields, std::string_view field) {
  if (fields.find(field) == nullptr) return std::nullopt;
  auto value = fields.boolean(field, false);
  if (!value) return std::unexpected(value.error());
  return *value;
}

// A token is spelled as a string, or as an object with its "content".
Result<std::optional<std::string>> optional_token(const JsonFields& fields,
                                                  std::string_view field) {
  const Json* value = fields.find(field);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  if (value->is_object()) {
    const auto content = value->find("content");
    if (content != value->end() && content->is_string()) return content->get<std::string>();
  }
  return std::unexpected(fields.wrong_type(field, "a string or an object with content"));
}

Result<std::vector<TokenizerConfig::AddedToken>> read_added_tokens(const JsonFields& fields) {
  std::vector<TokenizerConfig::AddedToken> tokens;
  const Json* decoder = fields.find("added_tokens_decoder");
  if (decoder == nullptr) return tokens;
  if (!decoder->is_object()) {
    return std::unexpected(fields.wrong_type("added_tokens_decoder", "an object"));
  }
  for (const auto& [key, value] : decoder->items()) {
    TokenizerConfig::AddedToken token;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), token.token_id);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || !value.is_object()) {
      return std::unexpected(
          fields.wrong_type("added_tokens_decoder", "an object of token ids with objects"));
    }
    const JsonFields entry(value, "added_tokens_decoder." + key + ".");
    auto content = entry.text("content", "");
    if (!content) return std::unexpected(content.error());
    token.content = std::move(*content);
    auto is_special = entry.boolean("special", false);
    if (!is_special) return std::unexpected(is_special.error());
    token.is_special = *is_special;
    for (const auto& [name, flag] :
         {std::pair("single_word", &token.is_single_word), std::pair("lstrip", &token.strips_left),
          std::pair("rstrip", &token.strips_right)}) {
      const auto value = entry.boolean(name, false);
      if (!value) return std::unexpected(value.error());
      *flag = *value;
    }
    const auto is_normalized = entry.boolean("normalized", !token.is_special);
    if (!is_normalized) return std::unexpected(is_normalized.error());
    token.is_normalized = *is_normalized;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

Result<TokenizerConfig> read_fields(const Json& json) {
  if (!json.is_object()) return invalid_argument("must be an object");
  const JsonFields fields(json, "");
  TokenizerConfig config;
  // Each step keeps its value or returns the first error.
  const auto take = [](auto&& result, auto* into) -> Result<void> {
    if (!result) return std::unexpected(result.error());
    *into = std::move(*result);
    return {};
  };
  Result<void> read = take(fields.text("tokenizer_class", ""), &config.tokenizer_class);
  if (read) read = take(optional_boolean(fields, "add_bos_token"), &config.add_bos_token);
  if (read) read = take(optional_boolean(fields, "add_eos_token"), &config.add_eos_token);
  if (read) read = take(optional_boolean(fields, "add_prefix_space"), &config.add_prefix_space);
  if (read) read = take(optional_boolean(fields, "legacy"), &config.legacy);
  if (read) read = take(optional_token(fields, "bos_token"), &config.bos_token);
  if (read) read = take(optional_token(fields, "eos_token"), &config.eos_token);
  if (read) read = take(read_added_tokens(fields), &config.added_tokens);
  if (!read) return std::unexpected(read.error());
  if (config.tokenizer_class.ends_with("Fast")) {
    config.tokenizer_class.resize(config.tokenizer_class.size() - 4);
  }
  return config;
}

}  // namespace

Result<TokenizerConfig> read_tokenizer_config(const std::filesystem::path& folder) {
  const auto text = read_file(folder / kFileName, kMaxFileBytes);
  if (!text) {
    if (text.error().code == ErrorCode::kNotFound) return TokenizerConfig();
    return std::unexpected(text.error());
  }
  return parse_tokenizer_config(*text);
}

Result<TokenizerConfig> parse_tokenizer_config(std::string_view text) {
  const auto json = parse_json(text);
  auto config = json ? read_fields(*json) : std::unexpected(json.error());
  if (!config) {
    return fail(config.error().code, std::string(kFileName) + ": " + config.error().message);
  }
  return config;
}

namespace {

// A JSON object of a file that may be absent: empty then.
Result<Json> read_object(const std::filesystem::path& folder, std::string_view name) {
  const auto text = read_file(folder / name, kMaxFileBytes);
  if (!text) {
    if (text.error().code == ErrorCode::kNotFound) return Json::object();
    return std::unexpected(text.error());
  }
  auto json = parse_json(*text);
  if (json && json->is_object()) return json;
  return fail(ErrorCode::kInvalidArgument,
              std::string(name) + ": " + (json ? "must be an object" : json.error().message));
}

// All spellings in special_tokens_map.json: texts, objects with "content", lists of both.
void collect_spellings(const Json& json, std::set<std::string>* spellings) {
  if (json.is_string()) {
    spellings->insert(json.get<std::string>());
  } else if (json.is_object() && json.contains("content")) {
    collect_spellings(json["content"], spellings);
  } else if (json.is_array()) {
    for (const Json& item : json) collect_spellings(item, spellings);
  }
}

}  // namespace

Result<void> read_added_tokens_file(const std::filesystem::path& folder, TokenizerConfig* config) {
  if (!config->added_tokens.empty()) return {};
  const auto tokens = read_object(folder, kAddedTokensName);
  if (!tokens) return std::unexpected(tokens.error());
  const auto map = read_object(folder, kTokensMapName);
  if (!map) return std::unexpected(map.error());
  std::set<std::string> special;
  for (const auto& [name, value] : map->items()) collect_spellings(value, &special);
  const JsonFields fields(*tokens, std::string(kAddedTokensName) + ": ");
  for (const auto& [content, id] : tokens->items()) {
    const auto token_id = fields.integer(content);
    if (!token_id) return std::unexpected(token_id.error());
    TokenizerConfig::AddedToken token;
    token.token_id = *token_id;
    token.content = content;
    token.is_special = special.contains(content);
    config->added_tokens.push_back(std::move(token));
  }
  config->added_tokens_name = std::string(kAddedTokensName) + ": id ";
  return {};
}

}  // namespace sluice::tokenizer
