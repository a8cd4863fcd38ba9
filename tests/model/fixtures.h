#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/compute.h"
#include "model/model_runner.h"
#include "sluice/import.h"

namespace sluice::model {

// A folder of a test's own, removed at its end.
class TemporaryFolder final {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Imports, then stops the same import at every `stride`-th report of progress, and expects an empty
// folder each time. Requires: options.package is in a folder that is empty so far.
void expect_stops_leave_nothing(ImportOptions options, int stride);

void write_text(const std::filesystem::path& path, const std::string& text);
std::string read_text(const std::filesystem::path& path);

// tests/golden/variants/NAME, with config.json, model.safetensors and golden data.
std::filesystem::path variant(const std::string& name);
// A copy of a variant that a test may damage; golden files left out.
void copy_variant(const std::string& name, const std::filesystem::path& folder);
// Replaces text in a file; the test fails if it is not there.
void replace_in(const std::filesystem::path& path, const std::string& from, const std::string& to);

// Splits model.safetensors into shard-0.safetensors, ... and writes their index.
void split_checkpoint(const std::filesystem::path& folder, size_t num_shards);

// Loads without ceremony; a failure is a failed test with the message.
std::unique_ptr<ModelRunner> load(const std::filesystem::path& folder,
                                  const LoadOptions& options = {});
// The message of a load that must fail.
std::string load_error(const std::filesystem::path& folder, const LoadOptions& options = {});
kernels::ThreadPool& test_pool();

// One sequence that runs alone on a runner; its blocks are scattered on purpose.
class Session final {
 public:
  Session(ModelRunner& runner, int32_t max_tokens);
  // Logits [tokens, V] of the next tokens, as plain numbers. Empty if the step failed.
  std::vector<std::vector<float>> step(const std::vector<int32_t>& tokens);

 private:
  ModelRunner& runner_;
  std::vector<int32_t> blocks_;
  int32_t length_ = 0;
};

// All prompt logits from chunks of a size (0: whole).
std::vector<std::vector<float>> prompt_logits(ModelRunner& runner,
                                              const std::vector<int32_t>& tokens, size_t chunk = 0);

}  // namespace sluice::model
