// A library with NVML's names and two GPUs; the second does not tell its power. With
// SLUICE_FAKE_NVML_LOST set both tell nothing any more. Only tests load it.
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kGpuIsLost = 15;
int result() {
  return std::getenv("SLUICE_FAKE_NVML_LOST") == nullptr ? 0 : kGpuIsLost;
}

}  // namespace

extern "C" {

int nvmlInit_v2() {
  return 0;
}
int nvmlShutdown() {
  return 0;
}
int nvmlSystemGetDriverVersion(char* text, unsigned size) {
  std::snprintf(text, size, "580.0");
  return 0;
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 2;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = reinterpret_cast<void*>(static_cast<size_t>(index) + 1);
  return 0;
}
int nvmlDeviceGetUUID(void* device, char* text, unsigned size) {
  std::strncpy(text, device == reinterpret_cast<void*>(1) ? "GPU-one" : "GPU-two", size);
  return 0;
}
int nvmlDeviceGetName(void*, char* text, unsigned size) {
  std::strncpy(text, "Test \"GPU\"", size);
  return 0;
}
int nvmlDeviceGetMemoryInfo(void*, unsigned long long* memory) {
  memory[0] = 80ull << 30;
  memory[1] = 60ull << 30;
  memory[2] = 20ull << 30;
  return result();
}
int nvmlDeviceGetUtilizationRates(void*, unsigned* utilization) {
  utilization[0] = 87;
  utilization[1] = 12;
  return result();
}
int nvmlDeviceGetTemperature(void*, int sensor, unsigned* celsius) {
  *celsius = 54;
  return sensor == 0 ? result() : 2;
}
int nvmlDeviceGetPowerUsage(void* device, unsigned* milliwatts) {
  *milliwatts = 312500;
  return device == reinterpret_cast<void*>(1) ? result() : 3;
}

}  // extern "C"
