#pragma once

#include <string>
#include <vector>

#include "sluice/runtime.h"

namespace sluice::engine {

// The NVIDIA GPUs that the driver's management library knows, asked through dlopen, so that no
// CUDA is needed to build or to run this.
struct GpuProbe {
  std::vector<DeviceReport> devices;  // matmul figures are not filled
  std::string note;                   // why there is none; empty if there is one
};
GpuProbe probe_gpus();

}  // namespace sluice::engine
