#include "observability/process_metrics.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "observability/gpu_metrics.h"

namespace sluice::observability {
namespace {

class Reader final : public Registry::Visitor {
 public:
  explicit Reader(Registry& registry) { registry.visit(*this); }
  void visit(const MetricInfo&, const Counter&) override {}
  void visit(const MetricInfo&, const Histogram&) override {}
  void visit(const MetricInfo& info, const Total& total) override {
    values[key(info)] = total.value();
  }
  void visit(const MetricInfo& info, const Gauge& gauge) override {
    values[key(info)] = gauge.value();
  }
  std::map<std::string, double> values;

 private:
  static std::string key(const MetricInfo& info) {
    return info.labels.empty() ? info.name : info.name + " " + info.labels[1].second;
  }
};

TEST(ProcessMetricsTest, FollowTheProcess) {
  Registry registry;
  const auto collection = add_process_metrics(registry);
  auto before = Reader(registry).values;
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_GT(before["process_resident_memory_bytes"], 1 << 20);
  EXPECT_GT(before["process_virtual_memory_bytes"], before["process_resident_memory_bytes"]);
  EXPECT_LE(before["process_start_time_seconds"], now + 2);
  EXPECT_GT(before["process_start_time_seconds"], now - 3600);
  EXPECT_GE(before["process_max_fds"], before["process_open_fds"]);

  const int descriptor = open("/dev/null", O_RDONLY);
  std::vector<char> memory(64 << 20, 1);
  volatile double sum = 0;
  while (Reader(registry).values["process_cpu_seconds_total"] <
         before["process_cpu_seconds_total"] + 0.02) {
    for (int i = 0; i < 100'000; ++i) sum = sum + memory[static_cast<size_t>(i)];
  }
  std::map<std::string, double> after;
  std::thread([&] { after = Reader(registry).values; }).join();
  EXPECT_EQ(after["process_open_fds"], before["process_open_fds"] + 1);
  EXPECT_EQ(after["process_threads"], before["process_threads"] + 1);
  EXPECT_GE(after["process_resident_memory_bytes"],
            before["process_resident_memory_bytes"] + (60 << 20));
  close(descriptor);
}

TEST(GpuMetricsTest, WithoutALibraryNothingIsAdded) {
  Registry registry;
  EXPECT_EQ(add_gpu_metrics(registry, "libthere-is-no-such-library.so"), nullptr);
  // A library that is not NVML.
  EXPECT_EQ(add_gpu_metrics(registry, "libc.so.6"), nullptr);
  EXPECT_TRUE(Reader(registry).values.empty());
}

TEST(GpuMetricsTest, EachGpuTellsWhatItKnows) {
  Registry registry;
  const auto collection = add_gpu_metrics(registry, SLUICE_FAKE_NVML);
  ASSERT_NE(collection, nullptr);
  const std::map<std::string, double> expected = {
      {"sluice_gpu_utilization_ratio GPU-one", 0.87},
      {"sluice_gpu_utilization_ratio GPU-two", 0.87},
      {"sluice_gpu_temperature_celsius GPU-one", 54},
      {"sluice_gpu_temperature_celsius GPU-two", 54},
      {"sluice_gpu_memory_bytes GPU-one", 80.0 * (1 << 30)},
      {"sluice_gpu_memory_bytes GPU-two", 80.0 * (1 << 30)},
      {"sluice_gpu_memory_used_bytes GPU-one", 20.0 * (1 << 30)},
      {"sluice_gpu_memory_used_bytes GPU-two", 20.0 * (1 << 30)},
      {"sluice_gpu_power_watts GPU-one", 312.5}};
  EXPECT_EQ(Reader(registry).values, expected);
  // A GPU that is lost has no temperature, rather than the last one.
  ::setenv("SLUICE_FAKE_NVML_LOST", "1", 1);
  const auto lost = Reader(registry).values;
  ::unsetenv("SLUICE_FAKE_NVML_LOST");
  EXPECT_EQ(lost.size(), expected.size());
  for (const auto& [name, value] : lost) EXPECT_TRUE(std::isnan(value)) << name;
  EXPECT_EQ(Reader(registry).values, expected);
}

}  // namespace
}  // namespace sluice::observability
