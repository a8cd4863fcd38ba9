#pragma once

#include <memory>

#include "observability/metrics.h"

namespace sluice::observability {

// Adds the figures of this process under the names that every Prometheus client library uses
// (process_resident_memory_bytes and so on). They are read from the kernel at each visit; nothing
// runs in between. What the kernel does not tell is left out.
//
// `registry` must outlive what is returned.
std::unique_ptr<Registry::Collection> add_process_metrics(Registry& registry);

}  // namespace sluice::observability
