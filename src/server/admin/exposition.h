#pragma once

#include <string>

#include "observability/metrics.h"

namespace sluice::server {

// What the answer's Content-Type is.
inline constexpr const char* kExpositionType = "text/plain; version=0.0.4; charset=utf-8";

// All metrics of a registry in Prometheus' text format 0.0.4: families in the order in which they
// were first met, each with one HELP and one TYPE line and all its members after them.
//
// Threads: any; visits the registry.
// Source: prometheus.io/docs/instrumenting/exposition_formats (text-based format).
std::string expose(observability::Registry& registry);

}  // namespace sluice::server
