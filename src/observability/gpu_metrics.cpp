#include "observability/gpu_metrics.h"

#include <dlfcn.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

namespace sluice::observability {
namespace {

// NVML's interface as far as it is used here.
// Source: nvml.h, NVML API reference (docs.nvidia.com/deploy/nvml-api).
using NvmlDevice = struct nvmlDevice_st*;
struct NvmlMemory {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};
struct NvmlUtilization {
  unsigned gpu;  // percent
  unsigned memory;
};
constexpr int kNvmlSuccess = 0;
constexpr int kNvmlTemperatureGpu = 0;
constexpr size_t kNvmlTextBytes = 96;

struct CloseLibrary {
  void operator()(void* library) const { dlclose(library); }
};

// The library, started.
class Nvml final {
 public:
  static std::shared_ptr<Nvml> open(const char* name) {
    auto nvml = std::make_shared<Nvml>();
    nvml->library_.reset(dlopen(name, RTLD_NOW | RTLD_LOCAL));
    if (nvml->library_ == nullptr || !nvml->bind_all()) return nullptr;
    nvml->is_started_ = nvml->init_() == kNvmlSuccess;
    return nvml->is_started_ ? nvml : nullptr;
  }
  Nvml() = default;
  ~Nvml() {
    if (is_started_) shutdown_();
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  int (*device_count)(unsigned*) = nullptr;
  int (*device)(unsigned, NvmlDevice*) = nullptr;
  int (*uuid)(NvmlDevice, char*, unsigned) = nullptr;
  int (*name)(NvmlDevice, char*, unsigned) = nullptr;
  int (*memory)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*utilization)(NvmlDevice, NvmlUtilization*) = nullptr;
  int (*temperature)(NvmlDevice, int, unsigned*) = nullptr;
  int (*power)(NvmlDevice, unsigned*) = nullptr;  // milliwatts

 private:
  template <typename Function>
  bool bind(const char* symbol, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library_.get(), symbol));
    return function != nullptr;
  }
  bool bind_all() {
    return bind("nvmlInit_v2", init_) && bind("nvmlShutdown", shutdown_) &&
           bind("nvmlDeviceGetCount_v2", device_count) &&
           bind("nvmlDeviceGetHandleByIndex_v2", device) && bind("nvmlDeviceGetUUID", uuid) &&
           bind("nvmlDeviceGetName", name) && bind("nvmlDeviceGetMemoryInfo", memory) &&
           bind("nvmlDeviceGetUtilizationRates", utilization) &&
           bind("nvmlDeviceGetTemperature", temperature) && bind("nvmlDeviceGetPowerUsage", power);
  }

  std::unique_ptr<void, CloseLibrary> library_;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  bool is_started_ = false;
};

// One GPU and how its metrics are labelled.
class Gpu final {
 public:
  Gpu(const Nvml& nvml, unsigned index, NvmlDevice device) : device_(device) {
    const auto text = [&](auto function) {
      std::array<char, kNvmlTextBytes> buffer{};
      const bool is_known = function(device, buffer.data(), buffer.size()) == kNvmlSuccess;
      buffer.back() = '\0';
      return std::string(is_known ? buffer.data() : "");
    };
    labels_ = {
        {"gpu", std::to_string(index)}, {"uuid", text(nvml.uuid)}, {"name", text(nvml.name)}};
  }

  void collect(const Nvml& nvml, Registry& registry) const {
    const auto set = [&](const char* name, const char* help, double value) {
      registry.gauge({name, help, labels_}).set(value);
    };
    NvmlUtilization utilization{};
    if (nvml.utilization(device_, &utilization) == kNvmlSuccess) {
      set("sluice_gpu_utilization_ratio", "Part of the time in which a kernel ran, 0 to 1.",
          utilization.gpu / 100.0);
    }
    unsigned celsius = 0;
    if (nvml.temperature(device_, kNvmlTemperatureGpu, &celsius) == kNvmlSuccess) {
      set("sluice_gpu_temperature_celsius", "Temperature of the GPU.", celsius);
    }
    NvmlMemory memory{};
    if (nvml.memory(device_, &memory) == kNvmlSuccess) {
      set("sluice_gpu_memory_bytes", "Memory of the GPU.", static_cast<double>(memory.total));
      set("sluice_gpu_memory_used_bytes", "Memory of the GPU that any process uses.",
          static_cast<double>(memory.used));
    }
    unsigned milliwatts = 0;
    if (nvml.power(device_, &milliwatts) == kNvmlSuccess) {
      set("sluice_gpu_power_watts", "Power that the GPU draws.", milliwatts / 1000.0);
    }
  }

 private:
  NvmlDevice device_;
  Labels labels_;
};

}  // namespace

std::unique_ptr<Registry::Collection> add_gpu_metrics(Registry& registry, const char* library) {
  std::shared_ptr<Nvml> nvml = Nvml::open(library);
  unsigned count = 0;
  if (nvml == nullptr || nvml->device_count(&count) != kNvmlSuccess) return nullptr;
  std::vector<Gpu> gpus;
  for (unsigned index = 0; index < count; ++index) {
    NvmlDevice device = nullptr;
    if (nvml->device(index, &device) == kNvmlSuccess) gpus.emplace_back(*nvml, index, device);
  }
  if (gpus.empty()) return nullptr;
  return registry.add_collector([&registry, nvml = std::move(nvml), gpus = std::move(gpus)] {
    for (const Gpu& gpu : gpus) gpu.collect(*nvml, registry);
  });
}

}  // namespace sluice::observability
