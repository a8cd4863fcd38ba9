#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "sluice/runtime.h"

namespace sluice::engine {

// The device that `wanted` means: auto, cpu or cuda[:N]. "auto" takes the first GPU that can be
// used, else the CPU with one notice that says why. kInvalidArgument for another word;
// kFailedPrecondition where the device cannot be used, with the reason.
Result<kernels::Device*> choose_device(const std::string& wanted,
                                       const std::function<void(const std::string&)>& notice);

// The NVIDIA GPUs of this machine, each with a product and a copy of its memory measured, or with
// the reason why it cannot be used.
struct GpuReports {
  std::vector<DeviceReport> devices;
  std::string note;  // why there is none; empty if there is one
};
GpuReports report_gpus();

}  // namespace sluice::engine
