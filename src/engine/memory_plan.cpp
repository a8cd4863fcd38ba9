#include <algorithm>
#include <filesystem>
#include <string>

#include "base/machine_memory.h"
#include "base/mapped_file.h"
#include "model/dtype.h"
#include "model/kv_format.h"
#include "model/manifest.h"
#include "model/source_model.h"
#include "sluice/runtime.h"

namespace sluice {
namespace {

constexpr size_t kMaxManifestBytes = size_t{64} << 20;

Result<MemoryPlan> plan_of(const model::ModelConfig& config, int64_t weight_bytes,
                           const std::string& kv_cache_dtype) {
  const auto dtype = model::find_dtype(config.dtype);
  if (!dtype) return invalid_argument("the model's dtype is " + config.dtype);
  const auto format = model::find_kv_format(kv_cache_dtype, dtype->scalar_type);
  if (!format) return std::unexpected(format.error());
  MemoryPlan plan;
  plan.family = config.family;
  plan.dtype = config.encoding.is_plain() ? config.dtype : format_name(config.encoding);
  plan.num_parameters = config.num_parameters;
  plan.weight_bytes = weight_bytes;
  plan.kv_bytes_per_token =
      model::kv_bytes(*format, dtype->scalar_type, config.num_kv_heads, config.head_size) *
      config.num_layers;
  plan.available_bytes = base::machine_memory().free_bytes;
  plan.kv_capacity_tokens = std::max<int64_t>(0, plan.available_bytes - plan.weight_bytes) /
                            std::max<int64_t>(1, plan.kv_bytes_per_token);
  plan.context_length = config.context_length;
  return plan;
}

Result<MemoryPlan> plan_package(const std::filesystem::path& folder,
                                const std::string& kv_cache_dtype) {
  const auto text = read_file(folder / model::kManifestFile, kMaxManifestBytes);
  if (!text) return std::unexpected(text.error());
  const auto manifest = model::parse_manifest(*text);
  if (!manifest) return std::unexpected(manifest.error());
  int64_t weight_bytes = 0;
  for (const auto& [path, entry] : manifest->files) {
    const bool is_weight = path.rfind(std::string(model::kWeightsFolder) + "/", 0) == 0;
    if (is_weight) weight_bytes += static_cast<int64_t>(entry.num_bytes);
  }
  return plan_of(manifest->config, weight_bytes, kv_cache_dtype);
}

}  // namespace

Result<MemoryPlan> plan_memory(const std::filesystem::path& model,
                               const std::string& kv_cache_dtype) {
  if (std::filesystem::exists(model / model::kManifestFile))
    return plan_package(model, kv_cache_dtype);
  const auto source = model::SourceModel::open(model, {});
  if (!source) return std::unexpected(source.error());
  int64_t weight_bytes = 0;
  for (const model::PlannedWeight& weight : source->weights()) {
    int64_t size = weight.dtype == at::kFloat ? 4 : 2;
    for (const int64_t extent : weight.shape) size *= extent;
    weight_bytes += size;
  }
  return plan_of(source->config(), weight_bytes, kv_cache_dtype);
}

}  // namespace sluice
