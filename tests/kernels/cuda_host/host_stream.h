#pragma once

#include <functional>

#include "kernels/cuda/device_api.h"

// Streams, events and graphs of the host's device.
//
// At first what is put into a stream is done at once, and its failure is put()'s result. Deferred,
// it is done as late as a device may do it: when somebody waits for it. A failure then comes where
// it is waited for, and at everything after it, as a device's does. What depends on either lacks a
// wait or uses memory again too early.
namespace sluice::kernels::cuda::host {

// Threads: any; what is deferred is done on the thread that waits.
Status put(Stream stream, std::function<Status()> work);

// From now on. Requires: nothing is in a stream.
void set_deferred(bool is_deferred);

// Does all that is in any stream.
Status finish_streams();

// Sets the table's functions of streams, events and graphs.
void set_streams(DeviceApi& api);

}  // namespace sluice::kernels::cuda::host
