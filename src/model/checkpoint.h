#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "model/safetensors.h"
#include "sluice/error.h"

namespace sluice::model {

// The tensors of a Hugging Face folder's safetensors files, by name: model.safetensors, or the
// shards that model.safetensors.index.json lists.
//
// Tensors are views of the mapped files, not copies.
class Checkpoint final {
 public:
  // kNotFound if the folder holds no weights; kInvalidArgument with file and reason, also for a
  // folder that has pickle files (.bin, .pth) only, with the command that converts them.
  static Result<Checkpoint> open(const std::filesystem::path& folder);

  bool has(const std::string& name) const { return places_.contains(name); }
  // Tells that a tensor of this name, if there is one, does not change the result.
  void ignore(const std::string& name) { used_.insert(name); }

  // kNotFound if there is no such tensor; kInvalidArgument for another shape, or a dtype that is
  // not F32, F16 or BF16. While planning() the tensor has its shape and dtype, but no data.
  Result<at::Tensor> take(const std::string& name, const std::vector<int64_t>& shape);
  Result<at::Tensor> take(const std::string& name);  // of any shape
  void set_planning(bool planning) { planning_ = planning; }

  // Names that neither take() nor ignore() has seen: parts of a model that the family ignores.
  std::vector<std::string> unused() const;

  // The dtype that most of the weights' bytes have.
  at::ScalarType main_dtype() const;
  const std::vector<SafetensorsFile>& files() const { return files_; }

 private:
  struct Place {
    size_t file_idx;
    size_t tensor_idx;
  };
  Result<void> add_file(const std::filesystem::path& path);
  Result<void> open_shards(const std::filesystem::path& folder,
                           const std::filesystem::path& index_path);

  std::vector<SafetensorsFile> files_;
  std::map<std::string, Place> places_;
  std::set<std::string> used_;
  bool planning_ = false;
};

// What to say of a folder without model.safetensors and its index: pickle files, by name and with
// the command that converts them, or nothing at all (kNotFound).
Error missing_weights(const std::filesystem::path& folder);

// A tensor that reads a mapped file's bytes in place and keeps the mapping alive. A tensor whose
// bytes are not aligned to its element is copied.
// Requires: dtype F32, F16, BF16, I8, U8 or F8_E4M3.
at::Tensor mapped_tensor(const SafetensorsFile& file, const TensorEntry& entry);

}  // namespace sluice::model
