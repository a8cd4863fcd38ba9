#include "model/loaded_model.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <utility>

#include "base/sha256.h"
#include "kernels/compute.h"
#include "model/dtype.h"
#include "model/manifest.h"
#include "model/program.h"
#include "model/program_file.h"
#include "model/safetensors.h"
#include "model/source_model.h"
#include "model/weight_loader.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxManifestBytes = 16 << 20;

// Counts bytes of two passes over the files: hashes, then weights.
class Progress final {
 public:
  Progress(const std::function<void(int64_t, int64_t)>& report, int64_t total_bytes)
      : report_(report), total_bytes_(total_bytes) {}
  void add(size_t bytes) {
    done_bytes_ = std::min(total_bytes_, done_bytes_ + static_cast<int64_t>(bytes));
    if (report_) report_(done_bytes_, total_bytes_);
  }

 private:
  const std::function<void(int64_t, int64_t)>& report_;
  int64_t total_bytes_;
  int64_t done_bytes_ = 0;
};

// Passes weights on and counts their bytes.
class CountingSink final : public WeightSink {
 public:
  CountingSink(WeightSink& next, Progress& progress) : next_(next), progress_(progress) {}
  Result<void> add(const std::string& path, const std::vector<at::Tensor>& parts,
                   bool is_table) override {
    for (const at::Tensor& part : parts) progress_.add(part.nbytes());
    return next_.add(path, parts, is_table);
  }
  Result<void> alias(const std::string& path, const std::string& target) override {
    return next_.alias(path, target);
  }
  Result<void> absent(const std::string& path) override { return next_.absent(path); }

 private:
  WeightSink& next_;
  Progress& progress_;
};

// The path of a package's file; refuses a link that leads out of the folder.
Result<fs::path> inside(const fs::path& folder, const std::string& path) {
  std::error_code error;
  const fs::path root = fs::canonical(folder, error);
  const fs::path real = fs::weakly_canonical(folder / path, error);
  const auto [end, rest] = std::mismatch(root.begin(), root.end(), real.begin(), real.end());
  if (error || end != root.end()) {
    return invalid_argument(path + ": lies outside the package");
  }
  return real;
}

Result<void> verify_file(const fs::path& folder, const std::string& path,
                         const ManifestFile& expected, kernels::ThreadPool& pool) {
  const auto real = inside(folder, path);
  if (!real) return std::unexpected(real.error());
  const auto file = MappedFile::open(*real);
  if (!file) return fail(ErrorCode::kDataLoss, file.error().message);
  const auto bytes = (*file)->bytes();
  if (bytes.size() != expected.num_bytes) {
    return fail(ErrorCode::kDataLoss, path + ": has " + std::to_string(bytes.size()) +
                                          " bytes, the manifest says " +
                                          std::to_string(expected.num_bytes));
  }
  if (digest_file(bytes, pool).sha256 != expected.sha256) {
    return fail(
        ErrorCode::kDataLoss,
        path + ": its content does not match the manifest's sha256; copy the package again");
  }
  return {};
}

// A tokenizer beside the package that the manifest does not know would be used unchecked.
Result<void> check_companions(const fs::path& folder, const Manifest& manifest) {
  std::error_code error;
  for (const char* name : kCompanionFiles) {
    if (fs::exists(folder / name, error) && !manifest.files.contains(name)) {
      return fail(ErrorCode::kDataLoss,
                  std::string(name) + ": is in the package's folder, but not in its manifest");
    }
  }
  return {};
}

Result<void> check_sizes(const ModelConfig& manifest, const ModelConfig& program) {
  struct Size {
    const char* name;
    int32_t ModelConfig::* member;
  };
  for (const Size& size :
       {Size{"vocabulary_size", &ModelConfig::vocabulary_size},
        Size{"context_length", &ModelConfig::context_length},
        Size{"num_layers", &ModelConfig::num_layers}, Size{"num_heads", &ModelConfig::num_heads},
        Size{"num_kv_heads", &ModelConfig::num_kv_heads},
        Size{"head_size", &ModelConfig::head_size}}) {
    if (manifest.*size.member != program.*size.member) {
      return invalid_argument(std::string(kManifestFile) + ": " + size.name + " is " +
                              std::to_string(manifest.*size.member) + ", the program's is " +
                              std::to_string(program.*size.member));
    }
  }
  return {};
}

// The dtype that the user asked for, or the model's own.
Result<at::ScalarType> wanted_dtype(const LoadOptions& options, const std::string& own) {
  const auto dtype = find_dtype(options.dtype.empty() ? own : options.dtype);
  if (!dtype) {
    return invalid_argument("dtype is '" + options.dtype.substr(0, 32) +
                            "', supported: f32, f16, bf16");
  }
  return dtype->scalar_type;
}

// Shortens the context to what the user asked for.
Result<void> limit_context(const LoadOptions& options, ModelConfig& config) {
  if (options.max_model_len < 0 || options.max_model_len > config.context_length) {
    return invalid_argument("max model length is " + std::to_string(options.max_model_len) +
                            ", the model's context is " + std::to_string(config.context_length) +
                            " (--max-model-len)");
  }
  if (options.max_model_len > 0) config.context_length = options.max_model_len;
  return {};
}

Result<void> load_weights(const fs::path& folder, const Manifest& manifest, WeightSink& sink) {
  for (const auto& [path, file] : manifest.files) {
    if (!path.starts_with(std::string(kWeightsFolder) + "/")) continue;
    auto weights = SafetensorsFile::open(folder / path);
    if (!weights) return std::unexpected(weights.error());
    for (const TensorEntry& entry : weights->tensors()) {
      const auto dtype = find_dtype(entry.dtype);
      if (!dtype) return invalid_argument(path + ": weight '" + entry.name + "' is " + entry.dtype);
      const bool is_table = dtype->name != manifest.config.dtype;
      auto added = sink.add(entry.name, {mapped_tensor(*weights, entry)}, is_table);
      if (!added) return added;
    }
  }
  for (const auto& [path, target] : manifest.aliases) {
    if (auto added = sink.alias(path, target); !added) return added;
  }
  return {};
}

Result<void> check_program(const torch::jit::Module& program, const ModelConfig& config) {
  if (auto checked = check_signature(program); !checked) return checked;
  if (auto checked = check_operators(program); !checked) return checked;
  const auto sizes = declared_sizes(program);
  if (!sizes) return std::unexpected(sizes.error());
  return check_sizes(config, *sizes);
}

int64_t total_bytes(const Manifest& manifest) {
  int64_t bytes = 0;
  for (const auto& [path, file] : manifest.files) bytes += static_cast<int64_t>(file.num_bytes);
  return bytes;
}

Result<LoadedModel> load_package(const fs::path& folder, const LoadOptions& options,
                                 kernels::ThreadPool& pool) {
  const auto text = read_file(folder / kManifestFile, kMaxManifestBytes);
  if (!text) return std::unexpected(text.error());
  const auto manifest = parse_manifest(*text);
  if (!manifest) return std::unexpected(manifest.error());
  Progress progress(options.progress, 2 * total_bytes(*manifest));
  for (const auto& [path, file] : manifest->files) {
    if (auto verified = verify_file(folder, path, file, pool); !verified) {
      return std::unexpected(verified.error());
    }
    progress.add(file.num_bytes);
  }
  if (auto checked = check_companions(folder, *manifest); !checked) {
    return std::unexpected(checked.error());
  }

  LoadedModel model;
  model.config = manifest->config;
  model.config.digest = sha256_hex(*text);
  auto program = load_program(folder / kProgramFile, ProgramOrigin::kPackage);
  if (!program) return std::unexpected(program.error());
  model.program = *std::move(program);
  if (auto checked = check_program(model.program, model.config); !checked) {
    return fail(checked.error().code, std::string(kProgramFile) + ": " + checked.error().message);
  }
  if (auto limited = limit_context(options, model.config); !limited) {
    return std::unexpected(limited.error());
  }
  const auto dtype = wanted_dtype(options, model.config.dtype);
  if (!dtype) return std::unexpected(dtype.error());
  model.dtype = *dtype;
  auto loader = WeightLoader::create(model.program, {manifest->aliases, *dtype}, pool);
  if (!loader) return std::unexpected(loader.error());
  CountingSink sink(**loader, progress);
  auto loaded = load_weights(folder, *manifest, sink);
  if (loaded) loaded = (*loader)->finish();
  if (!loaded) return std::unexpected(loaded.error());
  model.weight_bytes = (*loader)->weight_bytes();
  return model;
}

// The digest of a model that has no manifest: over its files and where its program came from.
Result<std::string> source_digest(const fs::path& folder, const SourceModel& source,
                                  kernels::ThreadPool& pool, Progress& progress) {
  Sha256 digest;
  digest.update(source.origin() + "\n");
  for (const fs::path& path : source.files()) {
    const auto file = MappedFile::open(folder / path);
    if (!file) return std::unexpected(file.error());
    digest.update(path.string());
    for (const std::string& chunk : digest_file((*file)->bytes(), pool).sha256) {
      digest.update(" " + chunk);
    }
    digest.update("\n");
    progress.add((*file)->bytes().size());
  }
  return digest.finish();
}

Result<LoadedModel> load_source(const fs::path& folder, const LoadOptions& options,
                                kernels::ThreadPool& pool) {
  auto source = SourceModel::open(folder, {options.families, options.dtype});
  if (!source) return std::unexpected(source.error());
  std::error_code error;
  int64_t bytes = 0;
  for (const fs::path& path : source->files()) {
    bytes += static_cast<int64_t>(fs::file_size(folder / path, error));
  }
  Progress progress(options.progress, 2 * bytes);

  LoadedModel model;
  model.config = source->config();
  if (auto limited = limit_context(options, model.config); !limited) {
    return std::unexpected(limited.error());
  }
  model.program = source->program();
  model.dtype = source->dtype();
  auto digest = source_digest(folder, *source, pool, progress);
  if (!digest) return std::unexpected(digest.error());
  model.config.digest = *std::move(digest);
  auto loader = WeightLoader::create(model.program, {source->aliases(), model.dtype}, pool);
  if (!loader) return std::unexpected(loader.error());
  CountingSink sink(**loader, progress);
  auto loaded = source->send_weights(sink);
  if (loaded) loaded = (*loader)->finish();
  if (!loaded) return std::unexpected(loaded.error());
  model.weight_bytes = (*loader)->weight_bytes();
  return model;
}

}  // namespace

Result<LoadedModel> load_model(const fs::path& folder, const LoadOptions& options,
                               kernels::ThreadPool& pool) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    return fail(ErrorCode::kNotFound, folder.filename().string() + ": there is no such folder");
  }
  try {
    auto model = fs::exists(folder / kManifestFile, error) ? load_package(folder, options, pool)
                                                           : load_source(folder, options, pool);
    if (model) {
      model->config.dtype = dtype_of(model->dtype).name;
      model->forward = &model->program.get_method("forward").function();
    }
    return model;
  } catch (const std::exception&) {
    return fail(ErrorCode::kResourceExhausted, "the model does not fit into memory");
  }
}

}  // namespace sluice::model
