#include "cli/machine.h"

#include <utility>

namespace sluice::cli {

nlohmann::ordered_json machine_json(const MachineReport& machine) {
  nlohmann::ordered_json devices = nlohmann::ordered_json::array();
  for (const DeviceReport& device : machine.devices) {
    devices.push_back({{"name", device.name},
                       {"description", device.description},
                       {"memory_bytes", device.memory_bytes},
                       {"free_memory_bytes", device.free_memory_bytes},
                       {"driver", device.driver},
                       {"matmul_ms", device.matmul_ms},
                       {"matmul_gflops", device.matmul_gflops},
                       {"error", device.error}});
  }
  return {{"version", machine.version},
          {"cpu_model", machine.cpu_model},
          {"num_cores", machine.num_cores},
          {"instruction_sets", machine.instruction_sets},
          {"profile", machine.profile},
          {"profile_error", machine.profile_error},
          {"devices", devices},
          {"gpu_note", machine.gpu_note}};
}

}  // namespace sluice::cli
