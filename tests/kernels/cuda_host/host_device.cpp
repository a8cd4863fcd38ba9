#include "host_device.h"

#include "host_memory.h"
#include "kernels/cuda/device/kernels.h"

namespace sluice::kernels::cuda {

const DeviceApi& host_device_api() {
  static const DeviceApi api = [] {
    DeviceApi made = host::memory_api();
    set_kernels(made);
    return made;
  }();
  return api;
}

}  // namespace sluice::kernels::cuda
