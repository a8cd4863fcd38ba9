#include "observability/gpu_metrics.h"

#include <cmath>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "observability/nvml.h"

namespace sluice::observability {
namespace {

// One GPU and how its metrics are labelled. What it does not tell has no metric; what it does not
// tell any more is not a number, so that no alert takes the last value for today's.
class Gpu final {
 public:
  Gpu(const Nvml& nvml, unsigned index, NvmlDevice device)
      : device_(device),
        labels_{{"gpu", std::to_string(index)},
                {"uuid", nvml.uuid(device)},
                {"name", nvml.name(device)}} {}

  void collect(const Nvml& nvml, Registry& registry) {
    const auto set = [&](const char* name, const char* help, bool is_known, double value) {
      if (is_known) told_.insert(name);
      if (!told_.contains(name)) return;
      registry.gauge({name, help, labels_}).set(is_known ? value : std::nan(""));
    };
    NvmlUtilization utilization{};
    bool is_known = nvml.utilization(device_, &utilization) == kNvmlSuccess;
    set("sluice_gpu_utilization_ratio", "Part of the time in which a kernel ran, 0 to 1.", is_known,
        utilization.gpu / 100.0);
    unsigned celsius = 0;
    is_known = nvml.temperature(device_, kNvmlTemperatureGpu, &celsius) == kNvmlSuccess;
    set("sluice_gpu_temperature_celsius", "Temperature of the GPU.", is_known, celsius);
    NvmlMemory memory{};
    is_known = nvml.memory(device_, &memory) == kNvmlSuccess;
    set("sluice_gpu_memory_bytes", "Memory of the GPU.", is_known,
        static_cast<double>(memory.total));
    set("sluice_gpu_memory_used_bytes", "Memory of the GPU that any process uses.", is_known,
        static_cast<double>(memory.used));
    unsigned milliwatts = 0;
    is_known = nvml.power(device_, &milliwatts) == kNvmlSuccess;
    set("sluice_gpu_power_watts", "Power that the GPU draws.", is_known, milliwatts / 1000.0);
  }

 private:
  std::set<std::string_view> told_;  // metrics that it has given once
  NvmlDevice device_;
  Labels labels_;
};

}  // namespace

std::unique_ptr<Registry::Collection> add_gpu_metrics(Registry& registry, const char* library) {
  auto opened = Nvml::open(library);
  if (!opened) return nullptr;
  std::shared_ptr<const Nvml> nvml = *std::move(opened);
  unsigned count = 0;
  if (nvml->device_count(&count) != kNvmlSuccess) return nullptr;
  std::vector<Gpu> gpus;
  for (unsigned index = 0; index < count; ++index) {
    NvmlDevice device = nullptr;
    if (nvml->device(index, &device) == kNvmlSuccess) gpus.emplace_back(*nvml, index, device);
  }
  if (gpus.empty()) return nullptr;
  return registry.add_collector(
      [&registry, nvml = std::move(nvml), gpus = std::move(gpus)]() mutable {
        for (Gpu& gpu : gpus) gpu.collect(*nvml, registry);
      });
}

}  // namespace sluice::observability
