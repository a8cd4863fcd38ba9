#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "sluice/error.h"

namespace sluice::model {

// One tensor of a safetensors file, row-major.
struct TensorEntry {
  std::string name;
  std::string dtype;  // as the format spells it: "F32", "F16", "BF16", "I64", ...
  std::vector<int64_t> shape;
  size_t begin = 0;  // bytes of the file, [begin, end)
  size_t end = 0;
};

// Bytes of one element; 0 for a dtype that the format does not know.
size_t dtype_bytes(const std::string& dtype);

// What the header of a safetensors file says.
struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // by place in the file
  std::map<std::string, std::string> metadata;
};

// Reads the header of a whole file's bytes. Errors as SafetensorsFile::open, without the file's
// name.
Result<SafetensorsHeader> read_safetensors_header(std::span<const std::byte> bytes);

// A safetensors file, mapped read-only: 8 bytes with the header's length (little-endian), the
// header (JSON: name -> dtype, shape, data_offsets), the tensors' bytes.
//
// Everything the header claims is checked at open: a file that passes can be read without a check.
// Source: huggingface/safetensors, README.md "Format".
class SafetensorsFile final {
 public:
  // kNotFound, or kInvalidArgument with file and reason: header longer than the file or 100 MB, not
  // JSON, a tensor twice, unknown dtype, negative or overflowing shape, bytes that do not match the
  // shape, tensors that overlap, leave holes or pass the end.
  static Result<SafetensorsFile> open(const std::filesystem::path& path);

  const std::string& file_name() const { return file_name_; }
  const std::vector<TensorEntry>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  std::span<const std::byte> bytes(const TensorEntry& entry) const {
    return file_->bytes().subspan(entry.begin, entry.end - entry.begin);
  }
  const std::shared_ptr<const MappedFile>& file() const { return file_; }

 private:
  std::string file_name_;
  std::shared_ptr<const MappedFile> file_;
  SafetensorsHeader header_;
};

// Gives each entry its place in a new file and returns the bytes that precede the data. Entries
// with wider elements come first and the data start at a multiple of 64 bytes, so that every tensor
// is aligned to its element at least. Reorders `entries`. `metadata` is added to __metadata__.
std::string lay_out_safetensors(std::vector<TensorEntry>& entries,
                                const std::map<std::string, std::string>& metadata = {});

}  // namespace sluice::model
