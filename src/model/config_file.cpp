#include "model/config_file.h"

#include <algorithm>
#include <limits>

#include "base/mapped_file.h"

namespace sluice::model {
namespace {

constexpr size_t kMaxConfigBytes = 4 << 20;
constexpr size_t kShownValueBytes = 64;
constexpr int64_t kMaxCount = 1 << 24;

void flatten(const std::string& prefix, const Json& json, std::map<std::string, Json>& fields,
             std::set<std::string>& nulls) {
  for (const auto& [name, value] : json.items()) {
    if (value.is_object()) {
      flatten(prefix + name + ".", value, fields, nulls);
    } else if (value.is_null()) {
      nulls.insert(prefix + name);
    } else {
      fields[prefix + name] = value;
    }
  }
}

std::string as_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

bool is_token_id(const Json& value) {
  return value.is_number_unsigned() &&
         value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int32_t>::max());
}

// Looks a field up and converts it; `matches` says whether the JSON value has the right type.
template <typename T, typename Matches>
Result<T> read_field(const std::map<std::string, Json>& fields, const std::string& where,
                     const std::string& name, const std::optional<T>& fallback, Matches matches) {
  const auto found = fields.find(name);
  if (found == fields.end()) {
    if (fallback) return *fallback;
    return invalid_argument(where + name + " is missing");
  }
  if (!matches(found->second)) return invalid_argument(where + name + " has the wrong type");
  return found->second.template get<T>();
}

}  // namespace

Result<ConfigFile> ConfigFile::open(const std::filesystem::path& path) {
  const auto text = read_file(path, kMaxConfigBytes);
  if (!text) return std::unexpected(text.error());
  return parse(*text, path.filename().string());
}

Result<ConfigFile> ConfigFile::parse(std::string_view text, const std::string& file_name) {
  ConfigFile config;
  config.where_ = file_name + ": ";
  const auto json = parse_json(text);
  if (!json) return fail(json.error().code, config.where_ + json.error().message);
  if (!json->is_object()) return invalid_argument(config.where_ + "is no JSON object");
  flatten("", *json, config.fields_, config.nulls_);
  return config;
}

Result<int64_t> ConfigFile::integer(const std::string& name,
                                    std::optional<int64_t> fallback) const {
  const auto fits = [](const Json& value) {
    if (value.is_number_unsigned()) {
      return value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    }
    return value.is_number_integer();
  };
  return read_field(fields_, where_, name, fallback, fits);
}

Result<int64_t> ConfigFile::count(const std::string& name, std::optional<int64_t> fallback) const {
  auto value = integer(name, fallback);
  if (value && (*value < 1 || *value > kMaxCount)) {
    return invalid_argument(where_ + name + " is " + std::to_string(*value) +
                            ", must be at least 1 and at most " + std::to_string(kMaxCount));
  }
  return value;
}

Result<double> ConfigFile::number(const std::string& name, std::optional<double> fallback) const {
  return read_field(fields_, where_, name, fallback,
                    [](const Json& value) { return value.is_number(); });
}

Result<bool> ConfigFile::flag(const std::string& name, std::optional<bool> fallback) const {
  return read_field(fields_, where_, name, fallback,
                    [](const Json& value) { return value.is_boolean(); });
}

Result<std::string> ConfigFile::text(const std::string& name,
                                     std::optional<std::string> fallback) const {
  return read_field(fields_, where_, name, fallback,
                    [](const Json& value) { return value.is_string(); });
}

Result<std::vector<std::string>> ConfigFile::texts(const std::string& name) const {
  const auto all_texts = [](const Json& value) {
    return value.is_array() &&
           std::ranges::all_of(value, [](const Json& item) { return item.is_string(); });
  };
  return read_field(fields_, where_, name, std::optional(std::vector<std::string>{}), all_texts);
}

bool ConfigFile::has(const std::string& name) const {
  const auto next = fields_.lower_bound(name + ".");
  return fields_.contains(name) || (next != fields_.end() && next->first.starts_with(name + "."));
}

Error ConfigFile::unsupported(const std::string& name, const std::string& why) const {
  return {ErrorCode::kUnimplemented, where_ + name + " " + why};
}

Result<void> ConfigFile::expect(const std::string& name,
                                const std::vector<std::string>& supported) const {
  if (!has(name)) return {};
  const auto found = fields_.find(name);
  const std::string value = found == fields_.end() ? "{...}" : as_text(found->second);
  if (std::ranges::find(supported, value) != supported.end()) return {};
  std::string list;
  for (const std::string& text : supported) list += (list.empty() ? "" : ", ") + text;
  return std::unexpected(unsupported(name, "is '" + value.substr(0, kShownValueBytes) +
                                               "', supported: " + (list.empty() ? "null" : list)));
}

Result<std::vector<int32_t>> ConfigFile::token_ids(const std::string& name) const {
  const auto found = fields_.find(name);
  if (found == fields_.end()) return std::vector<int32_t>{};
  const Json& value = found->second;
  if (is_token_id(value)) return std::vector{value.get<int32_t>()};
  if (!value.is_array() || !std::ranges::all_of(value, is_token_id)) {
    return invalid_argument(where_ + name + " is neither a token id nor a list of them");
  }
  return value.get<std::vector<int32_t>>();
}

}  // namespace sluice::model
