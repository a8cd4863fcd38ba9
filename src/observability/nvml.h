#pragma once

#include <memory>
#include <string>

#include "sluice/error.h"

namespace sluice::observability {

// NVML, the driver's own management library, as far as it is used here; opened at run time, so that
// nothing of CUDA is needed to build or to run this.
// Source: nvml.h, NVML API reference (docs.nvidia.com/deploy/nvml-api), version 2 entry points.
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
inline constexpr int kNvmlSuccess = 0;
inline constexpr int kNvmlTemperatureGpu = 0;
inline constexpr const char* kNvmlLibrary = "libnvidia-ml.so.1";

// The library, started. Each function returns kNvmlSuccess or why not.
class Nvml final {
 public:
  // kNotFound: there is no driver. kUnavailable: it does not start. Both say so in one line.
  static Result<std::shared_ptr<const Nvml>> open(const char* library = kNvmlLibrary);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  int (*device_count)(unsigned*) = nullptr;
  int (*device)(unsigned, NvmlDevice*) = nullptr;
  int (*memory)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*utilization)(NvmlDevice, NvmlUtilization*) = nullptr;
  int (*temperature)(NvmlDevice, int, unsigned*) = nullptr;
  int (*power)(NvmlDevice, unsigned*) = nullptr;  // milliwatts

  // Empty if the driver does not tell.
  std::string driver_version() const;
  std::string name(NvmlDevice device) const;
  std::string uuid(NvmlDevice device) const;

 private:
  struct CloseLibrary {
    void operator()(void* library) const;
  };
  Nvml() = default;
  template <typename Function>
  bool bind(const char* symbol, Function& function);
  bool bind_all();

  std::unique_ptr<void, CloseLibrary> library_;
  bool is_started_ = false;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  int (*driver_version_)(char*, unsigned) = nullptr;
  int (*name_)(NvmlDevice, char*, unsigned) = nullptr;
  int (*uuid_)(NvmlDevice, char*, unsigned) = nullptr;
};

}  // namespace sluice::observability
