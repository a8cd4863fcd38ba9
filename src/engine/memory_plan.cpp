#include <algorithm>
#include <filesystem>
#include <string>

#include "base/mapped_file.h"
#include "engine/machine_memory.h"
#include "model/manifest.h"
#include "model/source_model.h"
#include "sluice/runtime.h"

namespace sluice {
namespace {

constexpr size_t kMaxManifestBytes = size_t{64} << 20;

MemoryPlan plan_of(const model::ModelConfig& config, int64_t weight_bytes) {
  const int64_t element_bytes = config.dtype == "f32" ? 4 : 2;
  MemoryPlan plan;
  plan.family = config.family;
  plan.dtype = config.dtype;
  plan.num_parameters = config.num_parameters;
  plan.weight_bytes = weight_bytes;
  plan.kv_bytes_per_token =
      int64_t{2} * config.num_layers * config.num_kv_heads * config.head_size * element_bytes;
  plan.available_bytes = engine::machine_memory().free_bytes;
  plan.kv_capacity_tokens = std::max<int64_t>(0, plan.available_bytes - plan.weight_bytes) /
                            std::max<int64_t>(1, plan.kv_bytes_per_token);
  plan.context_length = config.context_length;
  return plan;
}

Result<MemoryPlan> plan_package(const std::filesystem::path& folder) {
  const auto text = read_file(folder / model::kManifestFile, kMaxManifestBytes);
  if (!text) return std::unexpected(text.error());
  const auto manifest = model::parse_manifest(*text);
  if (!manifest) return std::unexpected(manifest.error());
  int64_t weight_bytes = 0;
  for (const auto& [path, entry] : manifest->files) {
    const bool is_weight = path.rfind(std::string(model::kWeightsFolder) + "/", 0) == 0;
    if (is_weight) weight_bytes += static_cast<int64_t>(entry.num_bytes);
  }
  return plan_of(manifest->config, weight_bytes);
}

}  // namespace

Result<MemoryPlan> plan_memory(const std::filesystem::path& model) {
  if (std::filesystem::exists(model / model::kManifestFile)) return plan_package(model);
  const auto source = model::SourceModel::open(model, {});
  if (!source) return std::unexpected(source.error());
  int64_t weight_bytes = 0;
  for (const model::PlannedWeight& weight : source->weights()) {
    int64_t size = weight.dtype == at::kFloat ? 4 : 2;
    for (const int64_t extent : weight.shape) size *= extent;
    weight_bytes += size;
  }
  return plan_of(source->config(), weight_bytes);
}

}  // namespace sluice
