#pragma once

#include "kernels/cuda/device_api.h"

namespace sluice::kernels::cuda {

// host_memory.h's table with every kernel of src/kernels/cuda/device, compiled for the host.
// A launch is done when its function returns; so a failure is that function's result.
const DeviceApi& host_device_api();

}  // namespace sluice::kernels::cuda
