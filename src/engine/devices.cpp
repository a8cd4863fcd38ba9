#include "engine/devices.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <exception>
#include <optional>
#include <string_view>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/plugin.h"
#include "kernels/operators.h"
#include "kernels/output_pool.h"
#include "observability/nvml.h"

namespace sluice::engine {
namespace {

using kernels::cuda::CudaDevice;
using kernels::cuda::DeviceInfo;
using observability::kNvmlSuccess;
using observability::Nvml;

constexpr int64_t kProductSize = 1000;
constexpr int64_t kCopiedBytes = int64_t{256} << 20;
constexpr int kNumRuns = 7;

// N of "cuda:N", 0 of "cuda"; nothing for another word.
std::optional<int32_t> ordinal_of(std::string_view wanted) {
  if (wanted == "cuda") return 0;
  if (!wanted.starts_with("cuda:")) return std::nullopt;
  wanted.remove_prefix(5);
  int32_t ordinal = -1;
  const char* const end = wanted.data() + wanted.size();
  const auto [rest, error] = std::from_chars(wanted.data(), end, ordinal);
  if (error != std::errc() || rest != end || ordinal < 0) return std::nullopt;
  return ordinal;
}

Result<kernels::Device*> open_gpu(int32_t ordinal) {
  const auto api = kernels::cuda::device_api();
  if (!api) return std::unexpected(api.error());
  const auto device = CudaDevice::open(**api, ordinal);
  if (!device) return std::unexpected(device.error());
  return *device;
}

// The first one that can be used.
Result<kernels::Device*> open_any_gpu() {
  const auto api = kernels::cuda::device_api();
  if (!api) return std::unexpected(api.error());
  const auto devices = kernels::cuda::list_devices(**api);
  if (!devices) return std::unexpected(devices.error());
  Result<kernels::Device*> opened = open_gpu(0);
  for (int32_t i = 1; !opened && i < std::ssize(*devices); ++i) {
    if (auto other = open_gpu(i)) opened = other;
  }
  return opened;
}

// Median of a call and what it puts into the device's stream.
template <typename Call>
double median_ms(CudaDevice& device, const Call& call) {
  std::array<double, kNumRuns> times{};
  for (double& time : times) {
    const auto start = std::chrono::steady_clock::now();
    call();
    device.synchronize();
    const auto elapsed = std::chrono::steady_clock::now() - start;
    time = std::chrono::duration<double, std::milli>(elapsed).count();
  }
  std::nth_element(times.begin(), times.begin() + kNumRuns / 2, times.end());
  return times[kNumRuns / 2];
}

// A product of ones, so that every number of the result is the size and a wrong one shows.
void measure_product(CudaDevice& device, DeviceReport& report) {
  const at::Tensor ones = at::ones({kProductSize, kProductSize}, at::kFloat);
  const at::Tensor x = device.upload(ones);
  const auto weight = device.pack(ones);
  if (!weight) {
    report.error = weight.error().message;
    return;
  }
  kernels::OutputPool outputs(device);  // so that no call waits for memory
  at::Tensor product;
  report.matmul_ms = median_ms(device, [&] {
    const kernels::OutputScope scope(outputs);
    product = kernels::linear(x, *weight, {}, "", {});
  });
  const at::Tensor result = device.download(product);
  const auto* numbers = result.const_data_ptr<float>();
  if (!std::all_of(numbers, numbers + kProductSize * kProductSize,
                   [](float number) { return number == static_cast<float>(kProductSize); })) {
    report.error = "a product of two matrices came out wrong";
    return;
  }
  report.matmul_gflops = 2e-6 * kProductSize * kProductSize * kProductSize / report.matmul_ms;
}

void measure_copy(CudaDevice& device, DeviceReport& report) {
  const at::Tensor from = device.allocate({kCopiedBytes}, at::kByte);
  const at::Tensor to = device.allocate({kCopiedBytes}, at::kByte);
  const double ms = median_ms(device, [&] { device.copy(to, from); });
  report.copy_gb_per_s = 2e-6 * static_cast<double>(kCopiedBytes) / ms;
}

void measure(DeviceReport& report, int32_t ordinal) try {
  const auto opened = open_gpu(ordinal);
  if (!opened) {
    report.error = opened.error().message;
    return;
  }
  auto& device = dynamic_cast<CudaDevice&>(**opened);
  report.free_memory_bytes = device.free_bytes();
  measure_product(device, report);
  measure_copy(device, report);
} catch (const c10::Error& error) {
  report.error = std::string("a product or a copy failed: ") + error.what_without_backtrace();
} catch (const std::exception&) {
  report.error = "a product or a copy failed on this device";
}

std::string driver_version() {
  const auto nvml = Nvml::open();
  return nvml ? (*nvml)->driver_version() : "";
}

DeviceReport report_of(int32_t ordinal, const DeviceInfo& info) {
  DeviceReport report;
  report.name = "cuda:" + std::to_string(ordinal);
  report.description = info.name;
  report.compute_capability =
      std::to_string(info.compute_major) + "." + std::to_string(info.compute_minor);
  report.driver = driver_version();
  report.memory_bytes = info.total_bytes;
  report.error = kernels::cuda::why_unusable(info);
  if (report.error.empty()) measure(report, ordinal);
  return report;
}

// What the driver's management library knows of a device that no kernel of ours can reach.
DeviceReport unreachable(const Nvml& nvml, unsigned index, const std::string& why) {
  DeviceReport report;
  report.name = "cuda:" + std::to_string(index);
  report.driver = nvml.driver_version();
  report.error = why;
  observability::NvmlDevice device = nullptr;
  if (nvml.device(index, &device) != kNvmlSuccess) return report;
  report.description = nvml.name(device);
  observability::NvmlMemory memory{};
  if (nvml.memory(device, &memory) == kNvmlSuccess) {
    report.memory_bytes = static_cast<int64_t>(memory.total);
    report.free_memory_bytes = static_cast<int64_t>(memory.free);
  }
  return report;
}

GpuReports report_unreachable(const std::string& why) {
  GpuReports reports;
  const auto nvml = Nvml::open();
  unsigned count = 0;
  if (nvml && (*nvml)->device_count(&count) != kNvmlSuccess) count = 0;
  for (unsigned i = 0; i < count; ++i) reports.devices.push_back(unreachable(**nvml, i, why));
  if (count == 0) reports.note = nvml ? why : nvml.error().message;
  return reports;
}

}  // namespace

Result<kernels::Device*> choose_device(const std::string& wanted,
                                       const std::function<void(const std::string&)>& notice) {
  if (wanted == "cpu") return kernels::cpu_device();
  if (wanted == "auto") {
    if (auto gpu = open_any_gpu()) return gpu;
    // Which GPU it is that cannot be used, if there is one.
    const GpuReports gpus = report_unreachable(open_any_gpu().error().message);
    notice("device: cpu, no GPU is used: " +
           (gpus.devices.empty()
                ? gpus.note
                : gpus.devices.front().description + ": " + gpus.devices.front().error));
    return kernels::cpu_device();
  }
  const auto ordinal = ordinal_of(wanted);
  if (!ordinal) {
    return invalid_argument("device is \"" + wanted + "\", must be auto, cpu or cuda[:N]");
  }
  auto gpu = open_gpu(*ordinal);
  if (!gpu) return fail(gpu.error().code, "device is " + wanted + ", but " + gpu.error().message);
  return gpu;
}

GpuReports report_gpus() {
  const auto api = kernels::cuda::device_api();
  if (!api) return report_unreachable(api.error().message);
  const auto devices = kernels::cuda::list_devices(**api);
  if (!devices) return report_unreachable(devices.error().message);
  GpuReports reports;
  for (int32_t i = 0; i < std::ssize(*devices); ++i) {
    reports.devices.push_back(report_of(i, (*devices)[static_cast<size_t>(i)]));
  }
  return reports;
}

}  // namespace sluice::engine
