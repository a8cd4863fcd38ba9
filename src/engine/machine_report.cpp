#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "base/machine_memory.h"
#include "engine/devices.h"
#include "kernels/compute.h"
#include "sluice/runtime.h"

namespace sluice {
namespace {

constexpr int64_t kProductSize = 1000;
constexpr int kNumProducts = 7;

std::string cpu_model() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const size_t colon = line.find(':');
    if (colon != std::string::npos && colon + 2 < line.size()) return line.substr(colon + 2);
  }
  return "unknown processor";
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  const auto add = [&](const char* name, int supported) {
    if (supported != 0) names.emplace_back(name);
  };
  add("sse4.2", __builtin_cpu_supports("sse4.2"));
  add("avx2", __builtin_cpu_supports("avx2"));
  add("fma", __builtin_cpu_supports("fma"));
  add("f16c", __builtin_cpu_supports("f16c"));
  add("avx512f", __builtin_cpu_supports("avx512f"));
  add("avx512bw", __builtin_cpu_supports("avx512bw"));
  add("avx512dq", __builtin_cpu_supports("avx512dq"));
  add("avx512vl", __builtin_cpu_supports("avx512vl"));
  add("avx512vnni", __builtin_cpu_supports("avx512vnni"));
  add("avx512bf16", __builtin_cpu_supports("avx512bf16"));
  add("amx", kernels::can_run(kernels::Isa::kAmx) ? 1 : 0);
  return names;
}

// A product of ones, so that every number of the result is the size and a wrong one shows.
void measure_product(DeviceReport& report) try {
  const at::Tensor ones = at::ones({kProductSize, kProductSize}, at::kFloat);
  std::array<double, kNumProducts> times_ms{};
  at::Tensor product;
  for (double& time_ms : times_ms) {
    const auto start = std::chrono::steady_clock::now();
    product = at::mm(ones, ones);
    const auto elapsed = std::chrono::steady_clock::now() - start;
    time_ms = std::chrono::duration<double, std::milli>(elapsed).count();
  }
  const float* numbers = product.const_data_ptr<float>();
  if (!std::all_of(numbers, numbers + kProductSize * kProductSize,
                   [](float number) { return number == static_cast<float>(kProductSize); })) {
    report.error = "a product of two matrices came out wrong";
    return;
  }
  std::nth_element(times_ms.begin(), times_ms.begin() + kNumProducts / 2, times_ms.end());
  report.matmul_ms = times_ms[kNumProducts / 2];
  report.matmul_gflops = 2e-6 * kProductSize * kProductSize * kProductSize / report.matmul_ms;
} catch (const std::exception&) {
  report.error = "LibTorch cannot multiply two matrices here";
}

}  // namespace

MachineReport inspect_machine() {
  MachineReport report;
  report.version = SLUICE_VERSION;
  report.cpu_model = cpu_model();
  report.instruction_sets = instruction_sets();
  if (auto profile = kernels::cpu_profile()) {
    report.profile = std::move(*profile);
  } else {
    report.profile_error = profile.error().message;
  }
  report.num_cores = base::usable_cores();

  DeviceReport cpu;
  cpu.name = "cpu";
  cpu.description = report.cpu_model;
  const base::MachineMemory memory = base::machine_memory();
  cpu.memory_bytes = memory.total_bytes;
  cpu.free_memory_bytes = memory.free_bytes;
  cpu.error = report.profile_error;
  measure_product(cpu);
  report.devices.push_back(std::move(cpu));

  engine::GpuReports gpus = engine::report_gpus();
  for (DeviceReport& gpu : gpus.devices) report.devices.push_back(std::move(gpu));
  report.gpu_note = std::move(gpus.note);
  return report;
}

}  // namespace sluice
