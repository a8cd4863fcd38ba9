#include "observability/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>

namespace sluice::observability {
namespace {

// What /proc/self/stat says, in clock ticks and pages.
// Source: proc(5); the fields are counted from 1 there.
struct ProcessStat {
  int64_t user_ticks = 0;      // 14
  int64_t system_ticks = 0;    // 15
  int64_t num_threads = 0;     // 20
  int64_t start_ticks = 0;     // 22, since the machine's start
  int64_t virtual_bytes = 0;   // 23
  int64_t resident_pages = 0;  // 24
};

std::string read_file(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::optional<ProcessStat> read_stat() {
  const std::string text = read_file("/proc/self/stat");
  const size_t name_end = text.rfind(')');  // the name may hold blanks and brackets
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  constexpr int kFirstField = 3;
  constexpr int kLastField = 24;
  ProcessStat stat;
  std::string field;
  for (int number = kFirstField; number <= kLastField; ++number) {
    if (!(fields >> field)) return std::nullopt;
    int64_t* const target = number == 14   ? &stat.user_ticks
                            : number == 15 ? &stat.system_ticks
                            : number == 20 ? &stat.num_threads
                            : number == 22 ? &stat.start_ticks
                            : number == 23 ? &stat.virtual_bytes
                            : number == 24 ? &stat.resident_pages
                                           : nullptr;
    if (target != nullptr) *target = std::strtoll(field.c_str(), nullptr, 10);
  }
  return stat;
}

// Seconds since 1970 at which the machine started.
std::optional<double> boot_time() {
  const std::string text = read_file("/proc/stat");
  const size_t place = text.find("\nbtime ");
  if (place == std::string::npos) return std::nullopt;
  return std::strtod(text.c_str() + place + 7, nullptr);
}

std::optional<int64_t> num_open_descriptors() {
  std::error_code error;
  const std::filesystem::directory_iterator entries("/proc/self/fd", error);
  if (error) return std::nullopt;
  return std::distance(begin(entries), end(entries)) - 1;  // without the one that reads them
}

class ProcessMetrics final {
 public:
  explicit ProcessMetrics(Registry& registry)
      : registry_(registry),
        ticks_per_second_(static_cast<double>(sysconf(_SC_CLK_TCK))),
        page_bytes_(static_cast<double>(sysconf(_SC_PAGESIZE))),
        boot_time_(boot_time()) {}

  void collect() {
    if (const auto stat = read_stat()) set(*stat);
    if (const auto open = num_open_descriptors()) {
      gauge("process_open_fds", "Open file descriptors.").set(static_cast<double>(*open));
    }
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
      gauge("process_max_fds", "File descriptors that may be open.")
          .set(static_cast<double>(limit.rlim_cur));
    }
  }

 private:
  void set(const ProcessStat& stat) {
    registry_.total({"process_cpu_seconds_total", "User and system CPU time spent.", {}})
        .set(static_cast<double>(stat.user_ticks + stat.system_ticks) / ticks_per_second_);
    gauge("process_resident_memory_bytes", "Resident memory.")
        .set(static_cast<double>(stat.resident_pages) * page_bytes_);
    gauge("process_virtual_memory_bytes", "Virtual memory.")
        .set(static_cast<double>(stat.virtual_bytes));
    gauge("process_threads", "Threads.").set(static_cast<double>(stat.num_threads));
    if (!boot_time_) return;
    gauge("process_start_time_seconds", "Start of the process, in seconds since 1970.")
        .set(*boot_time_ + static_cast<double>(stat.start_ticks) / ticks_per_second_);
  }
  Gauge& gauge(const char* name, const char* help) { return registry_.gauge({name, help, {}}); }

  Registry& registry_;
  const double ticks_per_second_;
  const double page_bytes_;
  const std::optional<double> boot_time_;
};

}  // namespace

std::unique_ptr<Registry::Collection> add_process_metrics(Registry& registry) {
  return registry.add_collector(
      [metrics = std::make_shared<ProcessMetrics>(registry)] { metrics->collect(); });
}

}  // namespace sluice::observability
