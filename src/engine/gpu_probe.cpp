#include "engine/gpu_probe.h"

#include <dlfcn.h>

#include <array>
#include <memory>

namespace sluice::engine {
namespace {

// NVML's interface as far as it is used here (nvml.h, version 2 entry points; stable since 2012).
using NvmlDevice = struct nvmlDevice_st*;
struct NvmlMemory {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};
constexpr int kNvmlSuccess = 0;

struct CloseLibrary {
  void operator()(void* library) const { dlclose(library); }
};

struct Nvml {
  std::unique_ptr<void, CloseLibrary> library;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*driver_version)(char*, unsigned) = nullptr;
  int (*device_count)(unsigned*) = nullptr;
  int (*device)(unsigned, NvmlDevice*) = nullptr;
  int (*name)(NvmlDevice, char*, unsigned) = nullptr;
  int (*memory)(NvmlDevice, NvmlMemory*) = nullptr;

  template <typename Function>
  bool bind(const char* symbol, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library.get(), symbol));
    return function != nullptr;
  }

  bool open() {
    library.reset(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL));
    return library != nullptr && bind("nvmlInit_v2", init) && bind("nvmlShutdown", shutdown) &&
           bind("nvmlSystemGetDriverVersion", driver_version) &&
           bind("nvmlDeviceGetCount_v2", device_count) &&
           bind("nvmlDeviceGetHandleByIndex_v2", device) && bind("nvmlDeviceGetName", name) &&
           bind("nvmlDeviceGetMemoryInfo", memory);
  }
};

DeviceReport report_of(const Nvml& nvml, unsigned index) {
  DeviceReport report;
  report.name = "cuda:" + std::to_string(index);
  std::array<char, 96> text{};
  if (nvml.driver_version(text.data(), text.size()) == kNvmlSuccess) report.driver = text.data();
  NvmlDevice device = nullptr;
  if (nvml.device(index, &device) != kNvmlSuccess) {
    report.error = "the driver does not open this device";
    return report;
  }
  if (nvml.name(device, text.data(), text.size()) == kNvmlSuccess) report.description = text.data();
  NvmlMemory memory{};
  if (nvml.memory(device, &memory) == kNvmlSuccess) {
    report.memory_bytes = static_cast<int64_t>(memory.total);
    report.free_memory_bytes = static_cast<int64_t>(memory.free);
  }
  report.error = "this build has no CUDA kernels";
  return report;
}

}  // namespace

GpuProbe probe_gpus() {
  GpuProbe probe;
  Nvml nvml;
  if (!nvml.open()) {
    probe.note = "no NVIDIA driver is installed (libnvidia-ml.so.1 is not found)";
    return probe;
  }
  if (nvml.init() != kNvmlSuccess) {
    probe.note = "an NVIDIA driver is installed but does not start (nvidia-smi says more)";
    return probe;
  }
  unsigned count = 0;
  if (nvml.device_count(&count) != kNvmlSuccess) count = 0;
  for (unsigned index = 0; index < count; ++index) probe.devices.push_back(report_of(nvml, index));
  nvml.shutdown();
  if (count == 0) probe.note = "an NVIDIA driver is installed and knows no GPU";
  return probe;
}

}  // namespace sluice::engine
