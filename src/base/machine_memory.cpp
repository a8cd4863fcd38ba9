#include "base/machine_memory.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace sluice::base {
namespace {

namespace fs = std::filesystem;

// The value behind `key` in a file of lines "key value": -1 if there is none.
int64_t value_of(const fs::path& file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string name;
    int64_t value = 0;
    if (words >> name >> value && name == key) return value;
  }
  return -1;
}

// A file of one number: nullopt if it is absent or says "max".
std::optional<int64_t> number_in(const fs::path& file) {
  std::ifstream in(file);
  int64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;
}

// This process's folder under the mount of control groups of version 2, and all above it.
template <typename Visit>
void for_each_group(const Visit& visit) {
  const fs::path mount = "/sys/fs/cgroup";
  std::ifstream in("/proc/self/cgroup");
  fs::path group = "/";
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("0::", 0) == 0) group = line.substr(3);
  }
  // In a container the group's path is the host's: what is not there is skipped.
  for (fs::path path = group;; path = path.parent_path()) {
    visit(mount / path.relative_path());
    if (path == path.parent_path() || path.empty()) break;
  }
}

// Where a group says what it may use, what it uses, and how much of that is page cache that goes
// first when memory is short.
struct GroupFiles {
  const char* limit;
  const char* used;
  const char* page_cache;  // a key of memory.stat
};

void limit_by_group(const fs::path& group, const GroupFiles& files, MachineMemory& memory) {
  const auto limit = number_in(group / files.limit);
  const auto used = number_in(group / files.used);
  if (!limit || !used) return;
  const int64_t page_cache =
      std::max<int64_t>(0, value_of(group / "memory.stat", files.page_cache));
  memory.total_bytes = std::min(memory.total_bytes, *limit);
  memory.free_bytes =
      std::min(memory.free_bytes, std::max<int64_t>(0, *limit - *used + page_cache));
}

}  // namespace

MachineMemory machine_memory() {
  constexpr int64_t kKibibyte = 1024;
  MachineMemory memory;
  memory.total_bytes = std::max<int64_t>(0, value_of("/proc/meminfo", "MemTotal:")) * kKibibyte;
  memory.free_bytes = std::max<int64_t>(0, value_of("/proc/meminfo", "MemAvailable:")) * kKibibyte;
  for_each_group([&](const fs::path& group) {
    limit_by_group(group, {"memory.max", "memory.current", "inactive_file"}, memory);
  });
  // Version 1 keeps memory under a mount of its own.
  limit_by_group("/sys/fs/cgroup/memory",
                 {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}, memory);
  return memory;
}

int32_t usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int32_t cores = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::max(1, CPU_COUNT(&set));
  for_each_group([&](const fs::path& group) {
    std::ifstream in(group / "cpu.max");
    double quota = 0;
    double period = 0;
    if (in >> quota >> period && period > 0) {
      cores = std::min(cores, std::max(1, static_cast<int32_t>(std::ceil(quota / period))));
    }
  });
  return cores;
}

}  // namespace sluice::base
