#pragma once

#include <nlohmann/json.hpp>

#include "sluice/runtime.h"

namespace sluice::cli {

// The machine as `doctor --json` and the benchmarks write it: version, processor, instruction
// sets, kernel profile, cores and devices.
nlohmann::ordered_json machine_json(const MachineReport& machine);

}  // namespace sluice::cli
