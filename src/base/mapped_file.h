#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "sluice/error.h"

namespace sluice {

// A regular file's bytes, mapped read-only. Pages come from the page cache and can be dropped by
// the system at any time, so a mapping costs address space, not memory.
//
// A file that is cut short by somebody else while mapped ends the process (SIGBUS); packages are
// written aside and renamed, so nobody does that to them.
// Threads: reading is safe from any.
class MappedFile final {
 public:
  // kNotFound if it is absent; kInvalidArgument if it is no regular file or cannot be read.
  // Messages name the file without its folder.
  static Result<std::shared_ptr<const MappedFile>> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile(const std::byte* data, size_t size) : data_(data), size_(size) {}

  const std::byte* data_;
  size_t size_;
};

// Asks the system to read these bytes of a mapping ahead; returns at once. Any memory is allowed.
void read_ahead(std::span<const std::byte> bytes);

// A whole small file as a string. Errors as MappedFile::open; kInvalidArgument above `max_bytes`.
Result<std::string> read_file(const std::filesystem::path& path, size_t max_bytes);

}  // namespace sluice
