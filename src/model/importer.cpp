#include <ATen/core/grad_mode.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <future>
#include <numeric>
#include <system_error>
#include <thread>
#include <utility>

#include "base/machine_memory.h"
#include "base/mapped_file.h"
#include "kernels/compute.h"
#include "model/failure.h"
#include "model/golden_logits.h"
#include "model/manifest.h"
#include "model/model_runner.h"
#include "model/package_writer.h"
#include "model/packed_file.h"
#include "model/program.h"
#include "model/program_file.h"
#include "model/source_model.h"
#include "model/trial_run.h"
#include "sluice/import.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using model::Manifest;
using model::SourceModel;

// A folder beside the package in which it grows. Removed unless it became the package.
class PartialFolder final {
 public:
  static Result<PartialFolder> create(const fs::path& package) {
    const fs::path parent = package.parent_path();
    const fs::path path =
        parent / ("." + package.filename().string() + ".partial-" + std::to_string(::getpid()));
    std::error_code error;
    if (!parent.empty()) fs::create_directories(parent, error);
    fs::remove_all(path, error);
    if (!fs::create_directory(path, error)) {
      return invalid_argument(package.filename().string() + ": cannot be made (" + error.message() +
                              ")");
    }
    return PartialFolder(path);
  }
  ~PartialFolder() {
    std::error_code error;
    if (!path_.empty()) fs::remove_all(path_, error);
  }
  PartialFolder(PartialFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  PartialFolder& operator=(PartialFolder&&) = delete;

  const fs::path& path() const { return path_; }

  // Takes the package's place; an older package goes away once the new one is there.
  Result<void> become(const fs::path& package) {
    const std::string name = package.filename().string();
    std::error_code error;
    const fs::path old = path_.string() + "-old";
    const bool replaces = fs::exists(package, error);
    if (replaces) fs::rename(package, old, error);
    if (!error) fs::rename(path_, package, error);
    if (error) {
      const std::string reason = error.message();
      if (replaces && !fs::exists(package, error)) fs::rename(old, package, error);
      return invalid_argument(name + ": cannot be put in place (" + reason + ")");
    }
    path_.clear();
    if (replaces) fs::remove_all(old, error);
    return model::sync_folder(package.parent_path());
  }

 private:
  explicit PartialFolder(fs::path path) : path_(std::move(path)) {}
  fs::path path_;
};

// A folder that is no package is never replaced: it may be the user's own.
Result<void> check_target(const ImportOptions& options) {
  const std::string name = options.package.filename().string();
  if (name.empty() || name == "." || name == "..") {
    return invalid_argument("the package needs a folder's name without a slash at its end");
  }
  std::error_code error;
  if (!fs::exists(options.package, error)) return {};
  if (!options.overwrite) {
    return fail(ErrorCode::kAlreadyExists, name + ": is there already (--overwrite replaces it)");
  }
  if (!fs::exists(options.package / model::kManifestFile, error)) {
    return fail(ErrorCode::kAlreadyExists,
                name + ": is there already and is no package, so it is not replaced");
  }
  return {};
}

// Reports bytes to the caller, who may stop the import.
class Progress final {
 public:
  Progress(const ImportOptions& options, int64_t total_bytes)
      : options_(options), total_bytes_(total_bytes) {}
  bool add(size_t bytes) {
    done_bytes_ = std::min(total_bytes_, done_bytes_ + static_cast<int64_t>(bytes));
    return !options_.progress || options_.progress(done_bytes_, total_bytes_);
  }

 private:
  const ImportOptions& options_;
  int64_t total_bytes_;
  int64_t done_bytes_ = 0;
};

int64_t num_elements(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

// Of the weights as the package holds them.
int64_t weight_bytes(const SourceModel& source) {
  int64_t bytes = 0;
  for (const model::PlannedWeight& weight : source.weights()) {
    const auto encoded = weight.is_quantized ? encoded_shape(weight.shape, source.config().encoding)
                                             : Result<model::EncodedShape>{};
    if (weight.is_quantized && encoded) {
      bytes += num_elements(encoded->values) +
               num_elements(encoded->scales) * static_cast<int64_t>(sizeof(float));
    } else {
      bytes += num_elements(weight.shape) * static_cast<int64_t>(c10::elementSize(weight.dtype));
    }
  }
  return bytes;
}

// The file is written, but not synced.
Result<model::OutputFile> write_weights(SourceModel& source, const fs::path& folder,
                                        kernels::ThreadPool& pool, Progress& progress) {
  const fs::path weights = folder / model::kWeightsFolder;
  std::error_code error;
  fs::create_directory(weights, error);
  auto writer = model::WeightWriter::create(
      weights / "model.safetensors", source.weights(),
      {source.config().encoding, [&](size_t bytes) { return progress.add(bytes); }}, pool);
  if (!writer) return std::unexpected(writer.error());
  if (auto sent = source.send_weights(**writer); !sent) return std::unexpected(sent.error());
  return (*writer)->finish();
}

Result<void> write_packed(const SourceModel& source, const fs::path& folder, Progress& progress) {
  const auto weights = model::ProgramWeights::find(source.program());
  if (!weights) return std::unexpected(weights.error());
  return model::write_packed(folder, source.config(),
                             model::packed_weights(source.program(), *weights, source.aliases()),
                             [&progress](size_t bytes) { return progress.add(bytes); });
}

Result<void> write_program(const SourceModel& source, const fs::path& folder) {
  const auto bytes = model::save_program(source.program());
  if (!bytes) return std::unexpected(bytes.error());
  return model::write_file(folder / model::kProgramFile, std::as_bytes(std::span(*bytes)));
}

Result<void> copy_companions(const fs::path& source, const fs::path& folder) {
  std::error_code error;
  for (const char* name : model::kCompanionFiles) {
    if (!fs::exists(source / name, error)) continue;
    const auto file = MappedFile::open(source / name);
    if (!file) return std::unexpected(file.error());
    if (auto written = model::write_file(folder / name, (*file)->bytes()); !written) return written;
  }
  return {};
}

// Hashes what was written, reading it back, so that the manifest speaks of the files as they are.
Result<void> write_manifest(const SourceModel& source, const fs::path& folder,
                            kernels::ThreadPool& pool, Progress& progress) {
  Manifest manifest{source.config(), source.aliases(), {}};
  std::error_code error;
  for (const auto& item : fs::recursive_directory_iterator(folder, error)) {
    if (!item.is_regular_file()) continue;
    const auto file = MappedFile::open(item.path());
    if (!file) return std::unexpected(file.error());
    const std::string path = fs::relative(item.path(), folder, error).generic_string();
    manifest.files[path] = model::digest_file((*file)->bytes(), pool);
    if (!progress.add((*file)->bytes().size())) return model::import_stopped();
  }
  const std::string text = model::write_manifest(manifest);
  auto written = model::write_file(folder / model::kManifestFile, std::as_bytes(std::span(text)));
  if (!written) return written;
  return model::sync_folder(folder);
}

bool is_float8(const SourceModel& source) {
  return source.config().encoding.format == kernels::WeightFormat::kFloat8;
}

// What the package in `folder` answers here, for the machines that will serve it. Left out, with a
// notice, where the model cannot run here, or where its answers are no numbers.
Result<void> write_golden_file(const ImportOptions& options, const SourceModel& source,
                               const fs::path& folder, kernels::ThreadPool& pool,
                               Progress& progress) {
  const auto leave_out = [&](const std::string& reason) -> Result<void> {
    if (options.notice) options.notice("no golden logits are made: " + reason);
    return {};
  };
  if (const auto profile = kernels::cpu_profile(); !profile) {
    return leave_out(profile.error().message);
  }
  if (is_float8(source)) return leave_out("fp8 weights are for GPUs");
  const int64_t needed_bytes = options.packed ? 0 : weight_bytes(source);
  if (needed_bytes > base::machine_memory().free_bytes / 2) {
    return leave_out("the model needs " + std::to_string(needed_bytes) +
                     " bytes, more than half of the free memory");
  }
  bool is_stopped = false;
  int64_t done_bytes = 0;
  model::LoadOptions load_options;
  load_options.progress = [&](int64_t done, int64_t /*all*/) {
    is_stopped |= !progress.add(static_cast<size_t>(done - std::exchange(done_bytes, done)));
  };
  const auto runner = model::ModelRunner::load(folder, load_options, pool);
  if (is_stopped) return model::import_stopped();
  if (!runner) return std::unexpected(runner.error());
  const auto golden = model::make_golden(**runner, load_options.block_size);
  if (!golden) return std::unexpected(golden.error());
  if (!has_finite_logits(*golden)) return leave_out("they are not finite");
  const std::string text = model::write_golden(*golden);
  return model::write_file(folder / model::kGoldenFile, std::as_bytes(std::span(text)));
}

Result<void> write_package(const ImportOptions& options, SourceModel& source) {
  kernels::ThreadPool pool(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  const kernels::ComputeScope scope(pool);
  const int passes = (options.packed ? 4 : 2) + (options.golden ? 2 : 0);
  Progress progress(options, passes * weight_bytes(source));
  auto partial = PartialFolder::create(options.package);
  if (!partial) return std::unexpected(partial.error());
  auto weights = write_weights(source, partial->path(), pool, progress);
  if (!weights) return std::unexpected(weights.error());
  // The disk takes its time; the hashes are made meanwhile.
  auto synced = std::async(std::launch::async, [&weights] { return weights->sync(); });
  auto done = options.packed ? write_packed(source, partial->path(), progress) : Result<void>{};
  if (done) done = write_program(source, partial->path());
  if (done) done = copy_companions(options.source, partial->path());
  if (done) done = write_manifest(source, partial->path(), pool, progress);
  if (done && options.golden) {
    done = write_golden_file(options, source, partial->path(), pool, progress);
  }
  if (const auto on_disk = synced.get(); !on_disk) return on_disk;
  if (done) done = model::sync_folder(partial->path() / model::kWeightsFolder);
  if (done) done = partial->become(options.package);
  return done;
}

}  // namespace

Result<void> import_model(const ImportOptions& options) {
  const at::NoGradGuard no_grad;
  if (auto checked = check_target(options); !checked) return checked;
  try {
    auto source =
        SourceModel::open(options.source, {options.families, options.dtype, options.group_size});
    if (!source) return std::unexpected(source.error());
    if (options.packed && is_float8(*source)) {
      return invalid_argument(
          "packed weights are the CPU's, but fp8 ones are for GPUs; leave out --packed");
    }
    return write_package(options, *source);
  } catch (const std::exception& exception) {
    return fail(ErrorCode::kInternal, "the import failed: " + model::one_line(exception));
  }
}

}  // namespace sluice
