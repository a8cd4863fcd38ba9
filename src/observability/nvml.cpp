#include "observability/nvml.h"

#include <dlfcn.h>

#include <array>

namespace sluice::observability {
namespace {

constexpr size_t kTextBytes = 96;

// What `ask(buffer, bytes)` writes.
template <typename Ask>
std::string text(Ask ask) {
  std::array<char, kTextBytes> buffer{};
  const bool is_known = ask(buffer.data(), buffer.size()) == kNvmlSuccess;
  buffer.back() = '\0';
  return is_known ? buffer.data() : "";
}

}  // namespace

void Nvml::CloseLibrary::operator()(void* library) const {
  dlclose(library);
}

template <typename Function>
bool Nvml::bind(const char* symbol, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library_.get(), symbol));
  return function != nullptr;
}

bool Nvml::bind_all() {
  return bind("nvmlInit_v2", init_) && bind("nvmlShutdown", shutdown_) &&
         bind("nvmlSystemGetDriverVersion", driver_version_) &&
         bind("nvmlDeviceGetCount_v2", device_count) &&
         bind("nvmlDeviceGetHandleByIndex_v2", device) && bind("nvmlDeviceGetUUID", uuid_) &&
         bind("nvmlDeviceGetName", name_) && bind("nvmlDeviceGetMemoryInfo", memory) &&
         bind("nvmlDeviceGetUtilizationRates", utilization) &&
         bind("nvmlDeviceGetTemperature", temperature) && bind("nvmlDeviceGetPowerUsage", power);
}

Result<std::shared_ptr<const Nvml>> Nvml::open(const char* library) {
  const std::shared_ptr<Nvml> nvml(new Nvml());
  nvml->library_.reset(dlopen(library, RTLD_NOW | RTLD_LOCAL));
  if (nvml->library_ == nullptr || !nvml->bind_all()) {
    return fail(ErrorCode::kNotFound,
                "no NVIDIA driver is installed (libnvidia-ml.so.1 is not found)");
  }
  nvml->is_started_ = nvml->init_() == kNvmlSuccess;
  if (!nvml->is_started_) {
    return fail(ErrorCode::kUnavailable,
                "an NVIDIA driver is installed but does not start (nvidia-smi says more)");
  }
  return nvml;
}

Nvml::~Nvml() {
  if (is_started_) shutdown_();
}

std::string Nvml::driver_version() const {
  return text(driver_version_);
}

std::string Nvml::name(NvmlDevice device) const {
  return text([&](char* buffer, unsigned bytes) { return name_(device, buffer, bytes); });
}

std::string Nvml::uuid(NvmlDevice device) const {
  return text([&](char* buffer, unsigned bytes) { return uuid_(device, buffer, bytes); });
}

}  // namespace sluice::observability
