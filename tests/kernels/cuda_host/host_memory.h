#pragma once

#include "kernels/cuda/device_api.h"

namespace sluice::kernels::cuda::host {

// The table for a device "host (fibers)", all but the kernels. Every allocation ends before a page
// that cannot be touched (its size rounded up to 16 bytes) and holds 0xff, a NaN in every type, at
// first. Its start is a multiple of 16, and of 256 where its size is. `release` tells of what was
// written just before its start. Streams: host_stream.h.
// Threads: any.
DeviceApi memory_api();

}  // namespace sluice::kernels::cuda::host
