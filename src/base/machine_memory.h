#pragma once

#include <cstdint>

namespace sluice::base {

// Memory of this machine as this process may use it: the limits of its control groups count.
// Bytes; 0 if the system does not say.
struct MachineMemory {
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;  // without swapping, page cache counted as free
};
MachineMemory machine_memory();

// Cores that this process may use: its affinity, and the processor share of its control groups.
int32_t usable_cores();

}  // namespace sluice::base
