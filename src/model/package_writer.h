#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/safetensors.h"
#include "model/weight_encoding.h"
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

  // kResourceExhausted if the disk is full. What was written begins its way to the disk at once.
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

// Writes weights into one safetensors file whose layout is known beforehand. Weights are joined,
// converted and quantized in slabs of a few MiB, so memory does not grow with them. One slab is
// written while the next is worked on, so an error of the system may come a call later.
class WeightWriter final : public WeightSink {
 public:
  // Called after each slab with its bytes; false stops with kCancelled.
  using Written = std::function<bool(size_t)>;

  struct Options {
    WeightEncoding encoding;  // of the weights that are planned as quantized
    Written written;
  };
  static Result<std::unique_ptr<WeightWriter>> create(const std::filesystem::path& path,
                                                      const std::vector<PlannedWeight>& weights,
                                                      Options options, kernels::ThreadPool& pool);

  // kInvalidArgument: not finite, or not as planned.
  Result<void> add(const std::string& path, const std::vector<at::Tensor>& parts,
                   bool is_table) override;
  Result<void> alias(const std::string& path, const std::string& target) override;
  Result<void> absent(const std::string& path) override;
  // The file, to be synced: all planned weights must have come, and none may follow.
  Result<OutputFile> finish();

 private:
  // Where a weight's next rows go.
  struct Place {
    TensorEntry values;
    std::optional<TensorEntry> scales;  // of a quantized weight
    size_t values_end = 0;              // bytes of the file that are written
    size_t scales_end = 0;
  };

  WeightWriter(OutputFile file, Options options, kernels::ThreadPool& pool)
      : file_(std::move(file)), options_(std::move(options)), pool_(pool) {}
  Result<void> write_part(const std::string& path, const at::Tensor& part, Place& place);
  Result<void> write_slab(const std::string& path, const at::Tensor& slab, Place& place);
  Result<void> write(const at::Tensor& tensor, const TensorEntry& entry, size_t& end);
  // Waits for the slab on its way, if there is one.
  Result<void> written();

  OutputFile file_;
  Options options_;
  kernels::ThreadPool& pool_;
  std::map<std::string, TensorEntry> missing_;  // planned, not written yet
  // Of the slab on its way into file_. Last: its end waits for it.
  std::future<Result<void>> writing_;
};

}  // namespace sluice::model
