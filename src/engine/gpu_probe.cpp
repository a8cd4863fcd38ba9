#include "engine/gpu_probe.h"

#include <memory>

#include "observability/nvml.h"

namespace sluice::engine {
namespace {

using observability::kNvmlSuccess;
using observability::Nvml;

DeviceReport report_of(const Nvml& nvml, unsigned index) {
  DeviceReport report;
  report.name = "cuda:" + std::to_string(index);
  report.driver = nvml.driver_version();
  observability::NvmlDevice device = nullptr;
  if (nvml.device(index, &device) != kNvmlSuccess) {
    report.error = "the driver does not open this device";
    return report;
  }
  report.description = nvml.name(device);
  observability::NvmlMemory memory{};
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
  const auto opened = Nvml::open();
  if (!opened) {
    probe.note = opened.error().message;
    return probe;
  }
  const Nvml& nvml = **opened;
  unsigned count = 0;
  if (nvml.device_count(&count) != kNvmlSuccess) count = 0;
  for (unsigned index = 0; index < count; ++index) probe.devices.push_back(report_of(nvml, index));
  if (count == 0) probe.note = "an NVIDIA driver is installed and knows no GPU";
  return probe;
}

}  // namespace sluice::engine
