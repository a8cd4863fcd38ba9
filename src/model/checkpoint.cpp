#include "model/checkpoint.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/json.h"
#include "model/dtype.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxIndexBytes = 64 << 20;
const std::string kIndexName = "model.safetensors.index.json";
// Transformers' own files. 'auto' keeps their dtype, which would become float32.
constexpr const char* kConvertPretrained =
    "python -c \"from transformers import AutoModelForCausalLM as M; "
    "M.from_pretrained('.', torch_dtype='auto').save_pretrained('.')\"";
// A pickled state dict of the same names. Copies, as safetensors refuses tied tensors.
constexpr const char* kConvertStateDict =
    "python -c \"import torch, safetensors.torch as s; s.save_file({k: v.clone() for k, v in "
    "torch.load('FILE', 'cpu', weights_only=True).items()}, 'model.safetensors')\"";
// Meta's own layout, whose names and shapes are others.
constexpr const char* kConvertMeta =
    "python convert_llama_weights_to_hf.py --input_dir . --output_dir ../hf (of Transformers' "
    "source, models/llama)";

std::string shape_text(at::IntArrayRef shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

bool is_pickle(const std::string& name) {
  return name.ends_with(".bin") || name.ends_with(".pth") || name.ends_with(".pt") ||
         name.ends_with(".pkl") || name.ends_with(".ckpt");
}

bool is_plain_name(const std::string& name) {
  return std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

// The command that converts a pickle file, run in its folder.
std::string conversion(const std::string& name, bool is_meta) {
  if (name.starts_with("pytorch_model") && name.ends_with(".bin")) return kConvertPretrained;
  if (is_meta) return kConvertMeta;
  std::string command = kConvertStateDict;
  constexpr std::string_view kFile = "FILE";
  if (is_plain_name(name)) command.replace(command.find(kFile), kFile.size(), name);
  return command;
}

}  // namespace

Error missing_weights(const fs::path& folder) {
  std::error_code error;
  std::set<std::string> names;
  for (const auto& item : fs::directory_iterator(folder, error)) {
    const std::string name = item.path().filename().string();
    if (is_pickle(name)) names.insert(name);
  }
  if (names.empty()) return {ErrorCode::kNotFound, "there is no model.safetensors in the folder"};
  const std::string& name = *names.begin();
  const bool is_meta = fs::exists(folder / "params.json", error);
  return {ErrorCode::kInvalidArgument,
          name +
              ": is a pickle file, which may run code, and is not read; convert it once, in "
              "its folder, with: " +
              conversion(name, is_meta)};
}

at::Tensor mapped_tensor(const SafetensorsFile& file, const TensorEntry& entry) {
  const auto bytes = file.bytes(entry);
  const auto plain = find_dtype(entry.dtype);
  const auto options = at::TensorOptions().dtype(plain                      ? plain->scalar_type
                                                 : entry.dtype == "I8"      ? at::kChar
                                                 : entry.dtype == "F8_E4M3" ? at::kFloat8_e4m3fn
                                                                            : at::kByte);
  auto* data = const_cast<std::byte*>(bytes.data());
  if (reinterpret_cast<uintptr_t>(data) % dtype_bytes(entry.dtype) != 0) {
    at::Tensor copy = at::empty(entry.shape, options);
    std::memcpy(copy.mutable_data_ptr(), data, bytes.size());
    return copy;
  }
  return at::from_blob(data, entry.shape, [mapping = file.file()](void*) {}, options);
}

Result<Checkpoint> Checkpoint::open(const fs::path& folder) {
  Checkpoint checkpoint;
  std::error_code error;
  const fs::path index = folder / kIndexName;
  const fs::path single = folder / "model.safetensors";
  Result<void> opened;
  if (fs::exists(single, error)) {
    opened = checkpoint.add_file(single);
  } else if (fs::exists(index, error)) {
    opened = checkpoint.open_shards(folder, index);
  } else {
    return std::unexpected(missing_weights(folder));
  }
  if (!opened) return std::unexpected(opened.error());
  return checkpoint;
}

Result<void> Checkpoint::add_file(const fs::path& path) {
  auto file = SafetensorsFile::open(path);
  if (!file) return std::unexpected(file.error());
  for (size_t i = 0; i < file->tensors().size(); ++i) {
    const std::string& name = file->tensors()[i].name;
    if (!places_.emplace(name, Place{files_.size(), i}).second) {
      return invalid_argument(file->file_name() + ": tensor '" + name +
                              "' is in another shard too");
    }
  }
  files_.push_back(*std::move(file));
  return {};
}

Result<void> Checkpoint::open_shards(const fs::path& folder, const fs::path& index_path) {
  const std::string where = index_path.filename().string() + ": ";
  const auto text = read_file(index_path, kMaxIndexBytes);
  if (!text) return std::unexpected(text.error());
  const auto json = parse_json(*text);
  if (!json) return fail(json.error().code, where + json.error().message);
  if (!json->is_object() || !json->contains("weight_map") || !(*json)["weight_map"].is_object()) {
    return invalid_argument(where + "has no weight_map");
  }
  std::map<std::string, std::string> shard_of;
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : (*json)["weight_map"].items()) {
    if (!shard.is_string()) return invalid_argument(where + "weight_map names no file");
    const auto name = shard.get<std::string>();
    if (name.empty() || name != fs::path(name).filename().string() || name == "..") {
      return invalid_argument(where + "weight_map names a file outside the folder");
    }
    shard_of[tensor] = name;
    shards.insert(name);
  }
  for (const std::string& shard : shards) {
    if (auto added = add_file(folder / shard); !added) return added;
  }
  for (const auto& [tensor, shard] : shard_of) {
    const auto place = places_.find(tensor);
    if (place == places_.end() || files_[place->second.file_idx].file_name() != shard) {
      return invalid_argument(where + "tensor '" + tensor + "' is not in " + shard);
    }
  }
  return {};
}

Result<at::Tensor> Checkpoint::take(const std::string& name) {
  const auto place = places_.find(name);
  if (place == places_.end()) {
    const bool is_one = files_.size() == 1;
    return fail(ErrorCode::kNotFound, (is_one ? files_.front().file_name() : kIndexName) +
                                          ": has no tensor '" + name + "'");
  }
  used_.insert(name);
  const SafetensorsFile& file = files_[place->second.file_idx];
  const TensorEntry& entry = file.tensors()[place->second.tensor_idx];
  const auto dtype = find_dtype(entry.dtype);
  if (!dtype) {
    return invalid_argument(file.file_name() + ": tensor '" + name + "' has dtype " + entry.dtype +
                            ", supported: F32, F16, BF16");
  }
  if (planning_) {
    return at::empty(entry.shape, at::TensorOptions().dtype(dtype->scalar_type).device(at::kMeta));
  }
  return mapped_tensor(file, entry);
}

Result<at::Tensor> Checkpoint::take(const std::string& name, const std::vector<int64_t>& shape) {
  auto tensor = take(name);
  if (tensor && tensor->sizes() != at::IntArrayRef(shape)) {
    const SafetensorsFile& file = files_[places_.at(name).file_idx];
    return invalid_argument(file.file_name() + ": tensor '" + name + "' has shape " +
                            shape_text(tensor->sizes()) + ", config.json says " +
                            shape_text(shape));
  }
  return tensor;
}

std::vector<std::string> Checkpoint::unused() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : places_) {
    if (!used_.contains(name)) names.push_back(name);
  }
  return names;
}

at::ScalarType Checkpoint::main_dtype() const {
  std::map<at::ScalarType, size_t> bytes;
  for (const SafetensorsFile& file : files_) {
    for (const TensorEntry& entry : file.tensors()) {
      if (const auto dtype = find_dtype(entry.dtype)) {
        bytes[dtype->scalar_type] += entry.end - entry.begin;
      }
    }
  }
  const auto most =
      std::ranges::max_element(bytes, {}, [](const auto& item) { return item.second; });
  return most == bytes.end() ? at::kFloat : most->first;
}

}  // namespace sluice::model
