#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/safetensors.h"
#include "model/weight_sink.h"
#include "sluice/error.h"

namespace sluice::kernels {
class ThreadPool;
}

namespace sluice::model {

// A file being written; closed by its destructor.
class OutputFile final {
 public:
  // kInvalidArgument, with the system's reason, if it cannot be made.
  static Result<OutputFile> create(const std::filesystem::path& path);
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;

  // kResourceExhausted if the disk is full.
  Result<void> write(size_t offset, std::span<const std::byte> bytes);
  // Returns once the bytes are on the disk.
  Result<void> sync();

 private:
  OutputFile(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
  int fd_;
  std::string name_;
};

// Creates a file with this content, on the disk when it returns.
Result<void> write_file(const std::filesystem::path& path, std::span<const std::byte> bytes);
// Puts a folder's entries (new and renamed files) on the disk.
Result<void> sync_folder(const std::filesystem::path& folder);

// Writes weights into one safetensors file whose layout is known beforehand. Weights are joined and
// converted in slabs of a few MiB, so memory does not grow with them.
class WeightWriter final : public WeightSink {
 public:
  // Called after each slab with its bytes; false stops with kCancelled.
  using Written = std::function<bool(size_t)>;

  static Result<std::unique_ptr<WeightWriter>> create(const std::filesystem::path& path,
                                                      const std::vector<PlannedWeight>& weights,
                                                      kernels::ThreadPool& pool, Written written);

  // kInvalidArgument: not finite, or not as planned.
  Result<void> add(const std::string& path, const std::vector<at::Tensor>& parts,
                   bool is_table) override;
  Result<void> alias(const std::string& path, const std::string& target) override;
  Result<void> absent(const std::string& path) override;
  // All planned weights must have come. Puts the file on the disk.
  Result<void> finish();

 private:
  WeightWriter(OutputFile file, kernels::ThreadPool& pool, Written written)
      : file_(std::move(file)), pool_(pool), written_(std::move(written)) {}
  Result<void> write_part(const std::string& path, const at::Tensor& part, at::ScalarType dtype,
                          size_t offset);

  OutputFile file_;
  kernels::ThreadPool& pool_;
  Written written_;
  std::map<std::string, TensorEntry> missing_;  // planned, not written yet
};

}  // namespace sluice::model
