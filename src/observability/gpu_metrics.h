#pragma once

#include <memory>

#include "observability/metrics.h"
#include "observability/nvml.h"

namespace sluice::observability {

// Adds utilisation, temperature, memory and power of each NVIDIA GPU, asked of the driver's own
// library (NVML) at each visit. `library` is what dlopen is to open; tests have one of their own.
//
// Null if there is no such library, it does not start, or it knows no GPU: then nothing is added
// and nothing is kept open. A figure that a GPU does not tell is left out. `registry` must outlive
// what is returned.
std::unique_ptr<Registry::Collection> add_gpu_metrics(Registry& registry,
                                                      const char* library = kNvmlLibrary);

}  // namespace sluice::observability
