#include "model/loaded_model.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <utility>

#include "base/sha256.h"
#include "kernels/compute.h"
#include "kernels/device.h"
#include "model/dtype.h"
#include "model/golden_logits.h"
#include "model/manifest.h"
#include "model/packed_file.h"
#include "model/program.h"
#include "model/program_file.h"
#include "model/safetensors.h"
#include "model/source_model.h"
#include "model/weight_encoding.h"
#include "model/weight_loader.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;
using kernels::Float8Product;

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

// Sets the package's dtype and encoding to what the user asked for. What it computes is then
// another model, so the digest says it too.
Result<void> apply_dtype(const LoadOptions& options, ModelConfig& config) {
  const auto wanted = parse_dtype(options.dtype, 0);
  if (!wanted) return std::unexpected(wanted.error());
  if (!wanted->numbers) return {};
  const std::string own = format_name(config.encoding);
  if (options.dtype == (own.empty() ? config.dtype : own)) return {};
  if (!own.empty()) {
    return invalid_argument("dtype is " + options.dtype + ", but the package's weights are " + own +
                            "; import the original model again");
  }
  config.dtype = dtype_of(*wanted->numbers).name;
  config.encoding = wanted->encoding;
  config.digest = sha256_hex(config.digest + " " + options.dtype);
  return {};
}

// Whether quantized weights are to meet activations of the model's dtype, and can.
Result<bool> keep_activations(const LoadOptions& options, const ModelConfig& config,
                              const kernels::Device& device) {
  const std::string& name = options.activation_dtype;
  const bool is_float8 = config.encoding.format == kernels::WeightFormat::kFloat8;
  const Float8Product product = device.float8_product();
  if (is_float8 && device.is_cpu()) {
    return invalid_argument(
        "the weights are fp8, which needs a GPU; for the CPU import the original model with "
        "--dtype int8");
  }
  if (name.empty()) return is_float8 && product != Float8Product::kNative;
  const auto refuse = [&](const std::string& why) {
    return invalid_argument("activation dtype is \"" + name.substr(0, 32) + "\"" + why +
                            " (--activation-dtype)");
  };
  if (name != "int8" && name != "fp8" && name != "auto") {
    return refuse(", supported are int8, fp8 and auto");
  }
  if (config.encoding.is_plain()) return false;  // the flag is for a server's other models
  if (name == "auto") {
    if (config.encoding.format == kernels::WeightFormat::kInt4) {
      return refuse(", but the weights are int4: these are multiplied with int8 only");
    }
    if (!device.is_cpu()) return true;
    return refuse(", which needs a GPU: the CPU multiplies int8 with int8 only");
  }
  if ((name == "fp8") != is_float8) {
    return refuse(", but the weights are " + format_name(config.encoding));
  }
  if (is_float8 && product == Float8Product::kNone) {
    return refuse(", which needs compute capability 8.9; take auto");
  }
  return false;
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

// The weights of one file of a package, put into the program one by one.
class FileLoader final {
 public:
  FileLoader(const SafetensorsFile& file, const ModelConfig& config, WeightLoader& loader)
      : file_(file), config_(config), loader_(loader) {
    for (const TensorEntry& entry : file.tensors()) entries_.emplace(entry.name, &entry);
  }

  Result<void> load(const TensorEntry& entry) {
    if (is_scale(entry.name)) return {};  // comes with its values
    if (const auto dtype = find_dtype(entry.dtype)) {
      const bool is_table = dtype->name != config_.dtype;
      return loader_.add(entry.name, {mapped_tensor(file_, entry)}, is_table);
    }
    const auto scales = entries_.find(entry.name + kScaleSuffix);
    if (config_.encoding.is_plain() || entry.dtype != values_dtype(config_.encoding.format) ||
        scales == entries_.end() || scales->second->dtype != "F32") {
      return invalid_argument(file_.file_name() + ": weight '" + entry.name + "' is " +
                              entry.dtype + (scales == entries_.end() ? " without scales" : ""));
    }
    kernels::QuantizedWeight weight;
    weight.values = mapped_tensor(file_, entry);
    weight.scales = mapped_tensor(file_, *scales->second);
    weight.group_size = config_.encoding.group_size;
    return loader_.add_quantized(entry.name, weight);
  }

 private:
  // A tensor with the scales of another one.
  bool is_scale(const std::string& name) const {
    if (!name.ends_with(kScaleSuffix)) return false;
    const auto values = entries_.find(
        std::string_view(name).substr(0, name.size() - std::string_view(kScaleSuffix).size()));
    return values != entries_.end() && !find_dtype(values->second->dtype);
  }

  const SafetensorsFile& file_;
  const ModelConfig& config_;  // as the package has it
  WeightLoader& loader_;
  std::map<std::string, const TensorEntry*, std::less<>> entries_;
};

Result<void> load_weights(const fs::path& folder, const Manifest& manifest, WeightLoader& loader,
                          Progress& progress) {
  for (const auto& [path, file] : manifest.files) {
    if (!path.starts_with(std::string(kWeightsFolder) + "/")) continue;
    const auto weights = SafetensorsFile::open(folder / path);
    if (!weights) return std::unexpected(weights.error());
    FileLoader file_loader(*weights, manifest.config, loader);
    for (const TensorEntry& entry : weights->tensors()) {
      if (auto loaded = file_loader.load(entry); !loaded) return loaded;
      progress.add(entry.end - entry.begin);
    }
  }
  return {};
}

Result<void> add_aliases(const Manifest& manifest, WeightLoader& loader) {
  for (const auto& [path, target] : manifest.aliases) {
    if (auto added = loader.alias(path, target); !added) {
      return fail(added.error().code, std::string(kManifestFile) + ": " + added.error().message);
    }
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

template <typename IsUsed>
int64_t total_bytes(const Manifest& manifest, const IsUsed& is_used) {
  int64_t bytes = 0;
  for (const auto& [path, file] : manifest.files) {
    if (is_used(path)) bytes += static_cast<int64_t>(file.num_bytes);
  }
  return bytes;
}

// The package's golden logits; nothing if it has none. `config` is as the manifest has it.
Result<std::optional<GoldenLogits>> read_golden(const fs::path& folder, const ModelConfig& config) {
  std::error_code error;
  if (!fs::exists(folder / kGoldenFile, error)) return std::nullopt;
  const auto place = inside(folder, kGoldenFile);
  if (!place) return std::unexpected(place.error());
  const auto text = read_file(*place, kMaxGoldenBytes);
  if (!text) return std::unexpected(text.error());
  auto golden = parse_golden(*text, config.vocabulary_size);
  if (!golden) return std::unexpected(golden.error());
  if (golden->package != config.digest) {
    return fail(ErrorCode::kDataLoss,
                std::string(kGoldenFile) +
                    ": belongs to another package than the manifest beside it; copy the package "
                    "again");
  }
  return *std::move(golden);
}

Result<LoadedModel> load_package(const fs::path& folder, const LoadOptions& options,
                                 kernels::ThreadPool& pool) {
  const auto place = inside(folder, kManifestFile);
  if (!place) return std::unexpected(place.error());
  const auto text = read_file(*place, kMaxManifestBytes);
  if (!text) return std::unexpected(text.error());
  const auto manifest = parse_manifest(*text);
  if (!manifest) return std::unexpected(manifest.error());
  LoadedModel model;
  model.config = manifest->config;
  model.config.digest = sha256_hex(*text);
  auto golden = read_golden(folder, model.config);
  if (!golden) return std::unexpected(golden.error());
  if (auto applied = apply_dtype(options, model.config); !applied) {
    return std::unexpected(applied.error());
  }
  auto device = device_of(options);
  if (!device) return std::unexpected(device.error());
  const auto keeps_activations = keep_activations(options, model.config, **device);
  if (!keeps_activations) return std::unexpected(keeps_activations.error());
  model.keeps_activations = *keeps_activations;
  // Of the same weights in two forms only those that are used are read, and so checked.
  const bool use_packed = (*device)->is_cpu() && manifest->files.contains(packed_path()) &&
                          model.config.dtype == manifest->config.dtype &&
                          model.config.encoding == manifest->config.encoding;
  const auto is_used = [use_packed](const std::string& path) {
    if (path.starts_with(std::string(kPackedFolder) + "/")) {
      return use_packed && path == packed_path();
    }
    return !use_packed || !path.starts_with(std::string(kWeightsFolder) + "/");
  };
  Progress progress(options.progress, 2 * total_bytes(*manifest, is_used));
  for (const auto& [path, file] : manifest->files) {
    if (!is_used(path)) continue;
    auto verified = verify_file(folder, path, file, pool);
    if (!verified) return std::unexpected(verified.error());
    progress.add(file.num_bytes);
  }
  auto checked = check_companions(folder, *manifest);
  if (!checked) return std::unexpected(checked.error());
  auto program = load_program(folder / kProgramFile, ProgramOrigin::kPackage);
  if (!program) return std::unexpected(program.error());
  model.program = *std::move(program);
  checked = check_program(model.program, model.config);
  if (!checked) {
    return fail(checked.error().code, std::string(kProgramFile) + ": " + checked.error().message);
  }
  checked = limit_context(options, model.config);
  if (!checked) return std::unexpected(checked.error());
  model.dtype = find_dtype(model.config.dtype)->scalar_type;
  const bool is_quantized = !manifest->config.encoding.is_plain();
  const WeightEncoding still_to_quantize = is_quantized ? WeightEncoding{} : model.config.encoding;
  auto loader = WeightLoader::create(
      model.program,
      {**device, manifest->aliases, model.dtype, still_to_quantize, model.keeps_activations}, pool);
  if (!loader) return std::unexpected(loader.error());
  auto loaded = use_packed ? load_packed(folder, model.config, **loader,
                                         [&progress](size_t bytes) { progress.add(bytes); })
                           : load_weights(folder, *manifest, **loader, progress);
  if (loaded) loaded = add_aliases(*manifest, **loader);
  if (loaded) loaded = (*loader)->finish();
  if (!loaded) return std::unexpected(loaded.error());
  model.weight_bytes = (*loader)->weight_bytes();
  // In another dtype the same weights are another model.
  if (*golden && (*golden)->package == model.config.digest) model.golden = *std::move(golden);
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
  auto device = device_of(options);
  if (!device) return std::unexpected(device.error());
  const auto keeps_activations = keep_activations(options, model.config, **device);
  if (!keeps_activations) return std::unexpected(keeps_activations.error());
  model.keeps_activations = *keeps_activations;
  auto digest = source_digest(folder, *source, pool, progress);
  if (!digest) return std::unexpected(digest.error());
  model.config.digest = *std::move(digest);
  auto loader = WeightLoader::create(
      model.program,
      {**device, source->aliases(), model.dtype, model.config.encoding, model.keeps_activations},
      pool);
  if (!loader) return std::unexpected(loader.error());
  CountingSink sink(**loader, progress);
  auto loaded = source->send_weights(sink);
  if (loaded) loaded = (*loader)->finish();
  if (!loaded) return std::unexpected(loaded.error());
  model.weight_bytes = (*loader)->weight_bytes();
  return model;
}

}  // namespace

Result<kernels::Device*> device_of(const LoadOptions& options) {
  if (options.device != nullptr) return options.device;
  return kernels::cpu_device();
}

Result<LoadedModel> load_model(const fs::path& folder, const LoadOptions& options,
                               kernels::ThreadPool& pool) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    return fail(ErrorCode::kNotFound, folder.filename().string() + ": there is no such folder");
  }
  try {
    auto model = fs::exists(folder / kManifestFile, error) ? load_package(folder, options, pool)
                                                           : load_source(folder, options, pool);
    if (model && !(**device_of(options)).is_cpu()) {
      if (auto checked = check_device_operators(model->program); !checked) {
        return std::unexpected(checked.error());
      }
    }
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
