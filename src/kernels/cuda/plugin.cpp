#include "kernels/cuda/plugin.h"

#include <dlfcn.h>

#include <array>
#include <filesystem>
#include <optional>
#include <system_error>

namespace sluice::kernels::cuda {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPluginFile = "libsluice_cuda.so";
constexpr const char* kDriverFile = "libcuda.so.1";

const DeviceApi* provided = nullptr;

// 0: the tests' host, which has all.
int32_t compute_of(const DeviceInfo& info) {
  return info.compute_major * 10 + info.compute_minor;
}

std::optional<fs::path> find_plugin() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (error) return std::nullopt;
  for (const char* folder : {".", "../lib"}) {
    const fs::path file = program.parent_path() / folder / kPluginFile;
    if (fs::exists(file, error)) return file;
  }
  return std::nullopt;
}

std::unexpected<Error> unusable(std::string why) {
  return fail(ErrorCode::kFailedPrecondition, std::move(why));
}

// Both libraries stay loaded: their memory and threads live as long as the process.
Result<const DeviceApi*> load() {
  if (provided != nullptr) return provided;
  const auto file = find_plugin();
  if (!file) return unusable("this build has no CUDA kernels");
  if (::dlopen(kDriverFile, RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    return unusable(std::string("no NVIDIA driver is installed (") + kDriverFile + ")");
  }
  void* library = ::dlopen(file->c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = ::dlerror();
    return unusable(std::string(kPluginFile) + " cannot be loaded: " + (why == nullptr ? "" : why));
  }
  const auto function = reinterpret_cast<DeviceApiFunction>(::dlsym(library, kDeviceApiSymbol));
  const DeviceApi* api = function == nullptr ? nullptr : function();
  if (api == nullptr || api->version != kDeviceApiVersion) {
    return unusable(std::string(kPluginFile) + " belongs to another version of Sluice");
  }
  return api;
}

}  // namespace

Result<const DeviceApi*> device_api() {
  static const Result<const DeviceApi*> api = load();
  return api;
}

void provide_device_api(const DeviceApi& api) {
  provided = &api;
}

Result<std::vector<DeviceInfo>> list_devices(const DeviceApi& api) {
  int32_t count = 0;
  if (const Status status = api.count_devices(&count); status != kSuccess) {
    return unusable(std::string("the NVIDIA driver gives no device: ") + api.error_text(status));
  }
  if (count == 0) return unusable("an NVIDIA driver is installed and knows no GPU");
  std::vector<DeviceInfo> devices(static_cast<size_t>(count));
  for (int32_t ordinal = 0; ordinal < count; ++ordinal) {
    DeviceInfo& info = devices[static_cast<size_t>(ordinal)];
    if (const Status status = api.describe(ordinal, &info); status != kSuccess) {
      return unusable("cuda:" + std::to_string(ordinal) +
                      " cannot be opened: " + api.error_text(status));
    }
  }
  return devices;
}

// The instruction is there from 8.9 on; 9.0 to 11.0 have other ones for fp8, so that the compiler
// makes this one of conversions and products of float16.
Float8Product float8_product_of(const DeviceInfo& info) {
  const int32_t compute = compute_of(info);
  if (compute == 0 || compute == 89 || compute >= 120) return Float8Product::kNative;
  return compute > 89 ? Float8Product::kConverted : Float8Product::kNone;
}

std::string why_unusable(const DeviceInfo& info) {
  const int32_t compute = compute_of(info);
  if (compute >= kOldestCompute || compute == 0) return "";
  return "compute capability " + std::to_string(info.compute_major) + "." +
         std::to_string(info.compute_minor) + " is older than " +
         std::to_string(kOldestCompute / 10) + "." + std::to_string(kOldestCompute % 10) +
         ", which the kernels need";
}

}  // namespace sluice::kernels::cuda
