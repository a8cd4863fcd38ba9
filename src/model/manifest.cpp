#include "model/manifest.h"

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <span>
#include <vector>

#include "base/json.h"
#include "base/sha256.h"
#include "kernels/compute.h"
#include "model/dtype.h"
#include "model/weight_encoding.h"

namespace sluice::model {
namespace {

constexpr const char* kFormat = "sluice-package";
constexpr int64_t kFormatVersion = 1;
constexpr size_t kMaxPathBytes = 200;
constexpr size_t kDigestDigits = 64;

struct SizeField {
  const char* name;
  int32_t ModelConfig::* member;
};
constexpr SizeField kSizes[] = {{"vocabulary_size", &ModelConfig::vocabulary_size},
                                {"context_length", &ModelConfig::context_length},
                                {"num_layers", &ModelConfig::num_layers},
                                {"num_heads", &ModelConfig::num_heads},
                                {"num_kv_heads", &ModelConfig::num_kv_heads},
                                {"head_size", &ModelConfig::head_size}};

// A relative path of plain names: nothing that could leave the folder, on any file system.
bool is_inside(const std::string& path) {
  if (path.empty() || path.size() > kMaxPathBytes) return false;
  for (const char c : path) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' || c == '/';
    if (!is_plain) return false;
  }
  return ("/" + path + "/").find("/.") == std::string::npos && path.front() != '/' &&
         path.back() != '/' && path.find("//") == std::string::npos;
}

bool is_digest(const Json& value) {
  if (!value.is_string()) return false;
  const auto text = value.get<std::string>();
  return text.size() == kDigestDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

bool is_int32(const Json& value, int64_t lowest) {
  return value.is_number_integer() &&
         !(value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{1} << 62) &&
         value.get<int64_t>() >= lowest &&
         value.get<int64_t>() <= std::numeric_limits<int32_t>::max();
}

// Exactly these keys, perhaps the optional ones, no others.
Result<void> check_keys(const Json& json, std::initializer_list<const char*> keys,
                        std::initializer_list<const char*> optional = {}) {
  if (!json.is_object()) return invalid_argument("is no object");
  for (const char* key : keys) {
    if (!json.contains(key)) return invalid_argument(std::string("lacks ") + key);
  }
  for (const auto& [key, value] : json.items()) {
    const auto is_key = [&](const char* known) { return key == known; };
    if (std::ranges::none_of(keys, is_key) && std::ranges::none_of(optional, is_key)) {
      return invalid_argument("has an unknown field '" + key.substr(0, 64) + "'");
    }
  }
  return {};
}

// weight_format and, of int4, group_size; both are absent where weights are plain.
Result<WeightEncoding> parse_encoding(const Json& json) {
  if (!json.contains("weight_format")) {
    if (json.contains("group_size")) return invalid_argument("group_size without weight_format");
    return WeightEncoding{};
  }
  const Json& format = json["weight_format"];
  const bool is_int4 = format == "int4";
  if (!is_int4 && format != "int8" && format != "fp8") {
    return invalid_argument("weight_format is not one of int8, int4, fp8");
  }
  if (is_int4 != json.contains("group_size")) {
    return invalid_argument(is_int4 ? "lacks group_size" : "group_size goes with int4 only");
  }
  if (!is_int4) return parse_dtype(format.get<std::string>(), 0)->encoding;
  if (!is_int32(json["group_size"], 1)) return invalid_argument("group_size is no positive number");
  const auto wanted = parse_dtype("int4", json["group_size"].get<int64_t>());
  if (!wanted) return std::unexpected(wanted.error());
  return wanted->encoding;
}

Result<ModelConfig> parse_config(const Json& json) {
  ModelConfig config;
  for (const SizeField& size : kSizes) {
    if (!is_int32(json[size.name], 1)) {
      return invalid_argument(std::string(size.name) + " is not a positive number");
    }
    config.*size.member = json[size.name].get<int32_t>();
  }
  if (!json["num_parameters"].is_number_unsigned() ||
      json["num_parameters"].get<uint64_t>() > std::numeric_limits<int64_t>::max()) {
    return invalid_argument("num_parameters is not a count");
  }
  config.num_parameters = json["num_parameters"].get<int64_t>();
  const Json& ends = json["end_token_ids"];
  if (!ends.is_array() || !std::ranges::all_of(ends, [&](const Json& id) {
        return is_int32(id, 0) && id.get<int32_t>() < config.vocabulary_size;
      })) {
    return invalid_argument("end_token_ids are not token ids of the vocabulary");
  }
  config.end_token_ids = ends.get<std::vector<int32_t>>();
  if (!json["family"].is_string()) return invalid_argument("family is no text");
  config.family = json["family"].get<std::string>();
  if (!json["dtype"].is_string() || !find_dtype(json["dtype"].get<std::string>())) {
    return invalid_argument("dtype is not one of f32, f16, bf16");
  }
  config.dtype = json["dtype"].get<std::string>();
  auto encoding = parse_encoding(json);
  if (!encoding) return std::unexpected(encoding.error());
  config.encoding = *encoding;
  return config;
}

Result<ManifestFile> parse_file(const Json& json) {
  if (auto checked = check_keys(json, {"bytes", "sha256"}); !checked) {
    return std::unexpected(checked.error());
  }
  ManifestFile file;
  if (!json["bytes"].is_number_unsigned()) return invalid_argument("has no count of bytes");
  file.num_bytes = json["bytes"].get<size_t>();
  const Json& digests = json["sha256"];
  const size_t chunks = file.num_bytes / kDigestChunkBytes +
                        (file.num_bytes % kDigestChunkBytes > 0 || file.num_bytes == 0 ? 1 : 0);
  if (!digests.is_array() || digests.size() != chunks || !std::ranges::all_of(digests, is_digest)) {
    return invalid_argument("does not have " + std::to_string(chunks) + " sha256 digests");
  }
  file.sha256 = digests.get<std::vector<std::string>>();
  return file;
}

Result<std::map<std::string, ManifestFile>> parse_files(const Json& json) {
  if (!json.is_object()) return invalid_argument("files is no object");
  std::map<std::string, ManifestFile> files;
  for (const auto& [path, value] : json.items()) {
    if (!is_inside(path) || path == kManifestFile) {
      return invalid_argument("files names '" + path.substr(0, 64) +
                              "', which is not a file inside the package");
    }
    auto file = parse_file(value);
    if (!file) {
      return invalid_argument("file '" + path.substr(0, 64) + "' " + file.error().message);
    }
    files[path] = *std::move(file);
  }
  if (!files.contains(kProgramFile)) return invalid_argument("files lacks program.pt");
  return files;
}

Result<Manifest> parse_fields(const Json& json) {
  if (auto checked =
          check_keys(json,
                     {"format", "format_version", "family", "dtype", "vocabulary_size",
                      "context_length", "num_layers", "num_heads", "num_kv_heads", "head_size",
                      "num_parameters", "end_token_ids", "aliases", "files"},
                     {"weight_format", "group_size"});
      !checked) {
    return std::unexpected(checked.error());
  }
  if (json["format"] != kFormat || json["format_version"] != kFormatVersion) {
    return invalid_argument("is not format " + std::string(kFormat) + " version " +
                            std::to_string(kFormatVersion) + "; import the model again");
  }
  Manifest manifest;
  auto config = parse_config(json);
  if (!config) return std::unexpected(config.error());
  manifest.config = *std::move(config);
  if (!json["aliases"].is_object()) return invalid_argument("aliases is no object");
  for (const auto& [path, target] : json["aliases"].items()) {
    if (!target.is_string()) return invalid_argument("aliases names no weight");
    manifest.aliases[path] = target.get<std::string>();
  }
  auto files = parse_files(json["files"]);
  if (!files) return std::unexpected(files.error());
  manifest.files = *std::move(files);
  return manifest;
}

}  // namespace

std::string write_manifest(const Manifest& manifest) {
  nlohmann::ordered_json json;
  json["format"] = kFormat;
  json["format_version"] = kFormatVersion;
  json["family"] = manifest.config.family;
  json["dtype"] = manifest.config.dtype;
  const WeightEncoding& encoding = manifest.config.encoding;
  if (!encoding.is_plain()) json["weight_format"] = format_name(encoding);
  if (encoding.group_size > 0) json["group_size"] = encoding.group_size;
  for (const SizeField& size : kSizes) json[size.name] = manifest.config.*size.member;
  json["num_parameters"] = manifest.config.num_parameters;
  json["end_token_ids"] = manifest.config.end_token_ids;
  json["aliases"] = nlohmann::ordered_json::object();
  for (const auto& [path, target] : manifest.aliases) json["aliases"][path] = target;
  for (const auto& [path, file] : manifest.files) {
    json["files"][path] = {{"bytes", file.num_bytes}, {"sha256", file.sha256}};
  }
  return json.dump(2) + "\n";
}

Result<Manifest> parse_manifest(std::string_view text) {
  const auto json = parse_json(text, 8);
  const auto failed = [](const Error& error) {
    return fail(error.code, std::string(kManifestFile) + ": " + error.message);
  };
  if (!json) return failed(json.error());
  auto manifest = parse_fields(*json);
  if (!manifest) return failed(manifest.error());
  return manifest;
}

ManifestFile digest_file(std::span<const std::byte> bytes, kernels::ThreadPool& pool,
                         size_t chunk_bytes) {
  const size_t chunks = std::max<size_t>(1, (bytes.size() + chunk_bytes - 1) / chunk_bytes);
  ManifestFile file{bytes.size(), std::vector<std::string>(chunks)};
  const auto chunk = [&](size_t i) {
    const size_t begin = i * chunk_bytes;
    return bytes.subspan(begin, std::min(chunk_bytes, bytes.size() - begin));
  };
  // As many a task as are best together, but no more than a thread's share.
  const auto threads = static_cast<size_t>(pool.num_threads());
  const size_t per_task = std::min(sha256_lanes(), (chunks + threads - 1) / threads);
  const size_t tasks = (chunks + per_task - 1) / per_task;
  pool.run(static_cast<int64_t>(tasks), [&](int64_t task) {
    const size_t first = static_cast<size_t>(task) * per_task;
    std::vector<std::span<const std::byte>> texts;
    for (size_t i = first; i < std::min(first + per_task, chunks); ++i) texts.push_back(chunk(i));
    std::ranges::move(sha256_hex_each(texts), file.sha256.begin() + static_cast<ptrdiff_t>(first));
  });
  return file;
}

}  // namespace sluice::model
