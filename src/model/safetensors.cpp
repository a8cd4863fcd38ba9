#include "model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include "base/json.h"

namespace sluice::model {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxRank = 8;
constexpr size_t kDataAlignment = 64;
constexpr size_t kShownNameBytes = 128;

std::string shown(const std::string& name) {
  return "'" + name.substr(0, kShownNameBytes) + "'";
}

// Elements of a shape, or nothing if the product does not fit.
std::optional<size_t> num_elements(const std::vector<int64_t>& shape) {
  size_t product = 1;
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(product, static_cast<size_t>(size), &product)) return std::nullopt;
  }
  return product;
}

bool is_count(const Json& value) {
  return value.is_number_unsigned();
}

// Reads one header entry; its offsets are relative to the data.
Result<TensorEntry> parse_entry(const std::string& name, const Json& json) {
  if (!json.is_object() || json.size() != 3 || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets")) {
    return invalid_argument("tensor " + shown(name) + " needs dtype, shape and data_offsets");
  }
  TensorEntry entry;
  entry.name = name;
  const Json& dtype = json["dtype"];
  if (!dtype.is_string() || dtype_bytes(dtype.get<std::string>()) == 0) {
    return invalid_argument("tensor " + shown(name) + " has an unknown dtype");
  }
  entry.dtype = dtype.get<std::string>();

  const Json& shape = json["shape"];
  if (!shape.is_array() || shape.size() > kMaxRank || !std::ranges::all_of(shape, is_count)) {
    return invalid_argument("tensor " + shown(name) + " has a shape that is not up to " +
                            std::to_string(kMaxRank) + " counts");
  }
  for (const Json& size : shape) {
    const auto count = size.get<uint64_t>();
    if (count > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return invalid_argument("tensor " + shown(name) + " has a shape that overflows");
    }
    entry.shape.push_back(static_cast<int64_t>(count));
  }

  const Json& offsets = json["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !std::ranges::all_of(offsets, is_count)) {
    return invalid_argument("tensor " + shown(name) + " has data_offsets that are not two counts");
  }
  entry.begin = offsets[0].get<size_t>();
  entry.end = offsets[1].get<size_t>();
  return entry;
}

// The tensors must tile [0, data_bytes) without overlap or hole, each with its shape's size.
Result<void> check_places(const std::vector<TensorEntry>& sorted, size_t data_bytes) {
  size_t expected = 0;
  for (const TensorEntry& entry : sorted) {
    if (entry.end < entry.begin || entry.end > data_bytes) {
      return invalid_argument("tensor " + shown(entry.name) + " lies at bytes " +
                              std::to_string(entry.begin) + " to " + std::to_string(entry.end) +
                              " of " + std::to_string(data_bytes));
    }
    if (entry.begin != expected) {
      return invalid_argument("tensor " + shown(entry.name) + " begins at byte " +
                              std::to_string(entry.begin) + ", expected " +
                              std::to_string(expected) +
                              (entry.begin < expected ? " (tensors overlap)" : " (a hole)"));
    }
    expected = entry.end;
    size_t bytes = 0;
    const auto count = num_elements(entry.shape);
    if (!count || __builtin_mul_overflow(*count, dtype_bytes(entry.dtype), &bytes)) {
      return invalid_argument("tensor " + shown(entry.name) + " has a shape that overflows");
    }
    if (bytes != entry.end - entry.begin) {
      return invalid_argument("tensor " + shown(entry.name) + " needs " + std::to_string(bytes) +
                              " bytes by its shape, has " +
                              std::to_string(entry.end - entry.begin));
    }
  }
  if (expected != data_bytes) {
    return invalid_argument("the tensors end at byte " + std::to_string(expected) + " of " +
                            std::to_string(data_bytes));
  }
  return {};
}

Result<std::vector<TensorEntry>> parse_tensors(const Json& header, size_t data_bytes) {
  std::vector<TensorEntry> tensors;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") continue;
    auto entry = parse_entry(name, value);
    if (!entry) return std::unexpected(entry.error());
    tensors.push_back(*std::move(entry));
  }
  std::ranges::sort(tensors, [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  if (auto placed = check_places(tensors, data_bytes); !placed) {
    return std::unexpected(placed.error());
  }
  return tensors;
}

Result<std::map<std::string, std::string>> parse_metadata(const Json& header) {
  std::map<std::string, std::string> metadata;
  if (!header.contains("__metadata__")) return metadata;
  const Json& json = header["__metadata__"];
  if (!json.is_object()) return invalid_argument("__metadata__ is not an object");
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) return invalid_argument("__metadata__ holds a value that is no text");
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

// The header's text, checked against the file's length.
Result<std::string_view> header_text(std::span<const std::byte> bytes) {
  if (bytes.size() < kLengthBytes) {
    return invalid_argument("has " + std::to_string(bytes.size()) + " bytes, too few for a header");
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > kMaxHeaderBytes) {
    return invalid_argument("header claims " + std::to_string(length) + " bytes, limit is " +
                            std::to_string(kMaxHeaderBytes));
  }
  if (length > bytes.size() - kLengthBytes) {
    return invalid_argument("header claims " + std::to_string(length) + " bytes, the file has " +
                            std::to_string(bytes.size() - kLengthBytes) + " (cut short?)");
  }
  return std::string_view(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
}

}  // namespace

size_t dtype_bytes(const std::string& dtype) {
  static const std::map<std::string, size_t> kBytes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
      {"U32", 4},  {"F32", 4}, {"I64", 8}, {"U64", 8},     {"F64", 8}};
  const auto found = kBytes.find(dtype);
  return found == kBytes.end() ? 0 : found->second;
}

Result<SafetensorsHeader> read_safetensors_header(std::span<const std::byte> bytes) {
  const auto text = header_text(bytes);
  if (!text) return std::unexpected(text.error());
  const auto json = parse_json(*text, 4);
  if (!json) return fail(json.error().code, "header: " + json.error().message);
  if (!json->is_object()) return invalid_argument("header is no JSON object");

  const size_t data_begin = kLengthBytes + text->size();
  auto tensors = parse_tensors(*json, bytes.size() - data_begin);
  if (!tensors) return std::unexpected(tensors.error());
  for (TensorEntry& entry : *tensors) {
    entry.begin += data_begin;
    entry.end += data_begin;
  }
  auto metadata = parse_metadata(*json);
  if (!metadata) return std::unexpected(metadata.error());
  return SafetensorsHeader{*std::move(tensors), *std::move(metadata)};
}

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile result;
  result.file_name_ = path.filename().string();
  auto file = MappedFile::open(path);
  if (!file) return std::unexpected(file.error());
  result.file_ = *std::move(file);
  auto header = read_safetensors_header(result.file_->bytes());
  if (!header) return fail(header.error().code, result.file_name_ + ": " + header.error().message);
  result.header_ = *std::move(header);
  return result;
}

std::string lay_out_safetensors(std::vector<TensorEntry>& entries,
                                const std::map<std::string, std::string>& metadata) {
  std::ranges::stable_sort(entries, [](const TensorEntry& a, const TensorEntry& b) {
    return dtype_bytes(a.dtype) > dtype_bytes(b.dtype);
  });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  header["__metadata__"] = {{"format", "pt"}};
  for (const auto& [key, value] : metadata) header["__metadata__"][key] = value;
  size_t offset = 0;
  for (TensorEntry& entry : entries) {
    entry.begin = offset;
    offset += num_elements(entry.shape).value_or(0) * dtype_bytes(entry.dtype);
    entry.end = offset;
    header[entry.name] = {
        {"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text = header.dump();
  const size_t unpadded = kLengthBytes + text.size();
  const size_t data_begin = (unpadded + kDataAlignment - 1) / kDataAlignment * kDataAlignment;
  text.append(data_begin - unpadded, ' ');
  for (TensorEntry& entry : entries) {
    entry.begin += data_begin;
    entry.end += data_begin;
  }
  const auto length = static_cast<uint64_t>(text.size());
  std::string start(kLengthBytes, '\0');
  std::memcpy(start.data(), &length, kLengthBytes);
  return start + text;
}

}  // namespace sluice::model
