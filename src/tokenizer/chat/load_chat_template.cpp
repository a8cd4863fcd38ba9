#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/mapped_file.h"
#include "tokenizer/chat/chat_template.h"

namespace sluice::tokenizer {
namespace {

constexpr size_t kMaxFileBytes = 16 << 20;
constexpr std::string_view kTemplateName = "chat_template.jinja";
constexpr std::string_view kConfigName = "tokenizer_config.json";
constexpr std::string_view kTokensName = "special_tokens_map.json";

std::unexpected<Error> in_file(std::string_view file, const Error& error) {
  return fail(error.code, std::string(file) + ": " + error.message);
}

// The file as an object; empty if it is absent.
Result<Json> read_object(const std::filesystem::path& folder, std::string_view name) {
  const auto text = read_file(folder / name, kMaxFileBytes);
  if (!text) {
    if (text.error().code == ErrorCode::kNotFound) return Json::object();
    return std::unexpected(text.error());
  }
  auto json = parse_json(*text);
  if (!json) return in_file(name, json.error());
  if (!json->is_object()) return invalid_argument(std::string(name) + ": must be an object");
  return json;
}

// The special tokens that Transformers passes to templates. A token is a string, or an object with
// its "content".
void take_special_tokens(const Json& file, OrderedJson* tokens) {
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                           "cls_token", "mask_token"}) {
    const auto found = file.find(name);
    if (found == file.end()) continue;
    const Json* content = &*found;
    if (found->is_object() && found->contains("content")) content = &found->at("content");
    if (content->is_string()) (*tokens)[name] = content->get<std::string>();
  }
}

// The templates' texts by name; one without a name is the default.
struct Sources {
  std::optional<std::string> text;
  std::optional<std::string> tools;
};

Result<Sources> read_sources(const Json& config) {
  Sources sources;
  const auto wrong = [] {
    return invalid_argument(std::string(kConfigName) +
                            ": chat_template must be a string or a list of objects with name and "
                            "template");
  };
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return sources;
  if (found->is_string()) {
    sources.text = found->get<std::string>();
    return sources;
  }
  if (!found->is_array()) return wrong();
  for (const Json& entry : *found) {
    const bool is_named = entry.is_object() && entry.contains("name") &&
                          entry.contains("template") && entry["name"].is_string() &&
                          entry["template"].is_string();
    if (!is_named) return wrong();
    if (entry["name"] == "default") sources.text = entry["template"].get<std::string>();
    if (entry["name"] == "tool_use") sources.tools = entry["template"].get<std::string>();
  }
  if (!sources.text) {
    return invalid_argument(std::string(kConfigName) +
                            ": chat_template has no template named default");
  }
  return sources;
}

}  // namespace

Result<ModelChat> load_chat_template(const std::filesystem::path& folder,
                                     const ChatLimits& limits) {
  const auto config = read_object(folder, kConfigName);
  if (!config) return std::unexpected(config.error());
  const auto map = read_object(folder, kTokensName);
  if (!map) return std::unexpected(map.error());
  OrderedJson tokens = OrderedJson::object();
  take_special_tokens(*map, &tokens);
  take_special_tokens(*config, &tokens);

  std::string_view file = kTemplateName;
  Sources sources;
  auto text = read_file(folder / kTemplateName, kMaxFileBytes);
  if (text) {
    sources.text = std::move(*text);
  } else if (text.error().code != ErrorCode::kNotFound) {
    return std::unexpected(text.error());
  } else {
    file = kConfigName;
    auto read = read_sources(*config);
    if (!read) return std::unexpected(read.error());
    sources = std::move(*read);
  }
  if (!sources.text) {
    return fail(ErrorCode::kNotFound,
                "the model folder has no chat_template.jinja and no chat_template in "
                "tokenizer_config.json");
  }
  auto text_template = ChatTemplate::compile(*sources.text, limits);
  if (!text_template) return in_file(file, text_template.error());
  ModelChat chat{std::move(*text_template), std::nullopt,
                 std::make_unique<const OrderedJson>(std::move(tokens))};
  if (sources.tools) {
    auto tool_template = ChatTemplate::compile(*sources.tools, limits);
    if (!tool_template) return in_file(file, tool_template.error());
    chat.tool_template = std::move(*tool_template);
  }
  return chat;
}

}  // namespace sluice::tokenizer
