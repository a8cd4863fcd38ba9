#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda/device_api.h"
#include "kernels/device.h"
#include "sluice/error.h"

namespace sluice::kernels::cuda {

// The CUDA kernels: libsluice_cuda.so, loaded at the first call, from beside the program or its
// ../lib. kFailedPrecondition with a reason for a person if there is no such file (a build without
// CUDA), no driver, or a driver too old. The answer is fixed at the first call.
Result<const DeviceApi*> device_api();

// Makes `api` the answer of device_api(). Requires: nobody has asked yet.
void provide_device_api(const DeviceApi& api);

// The oldest devices that have what the kernels use: bfloat16 in the matrix units, asynchronous
// copies.
inline constexpr int32_t kOldestCompute = 80;

// By what the compiler makes of the kernels' instruction (docs/decisions/0027-fp8-weights.md).
Float8Product float8_product_of(const DeviceInfo& info);

// All devices that the driver knows, those too old for us too. Requires: an api.
Result<std::vector<DeviceInfo>> list_devices(const DeviceApi& api);

// Why a device cannot be used; empty if it can.
std::string why_unusable(const DeviceInfo& info);

}  // namespace sluice::kernels::cuda
