#include "host_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#include "fibers.h"
#include "host_stream.h"

namespace sluice::kernels::cuda::host {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr int64_t kDeviceBytes = int64_t{16} << 30;

struct Mapping {
  unsigned char* begin;
  size_t bytes;  // without the last page
};

std::mutex mutex;
std::map<unsigned char*, Mapping> mappings;  // by what `allocate` gave
int64_t allocated_bytes = 0;

size_t round_up(size_t bytes, size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

Status count_devices(int32_t* count) {
  *count = 1;
  return kSuccess;
}

Status use(int32_t ordinal) {
  return ordinal == 0 ? kSuccess : kInvalidDevice;
}

Status describe(int32_t ordinal, DeviceInfo* info) {
  if (ordinal != 0) return kInvalidDevice;
  *info = DeviceInfo{};
  std::snprintf(info->name, sizeof(info->name), "host (fibers)");
  info->num_multiprocessors = 4;
  info->total_bytes = kDeviceBytes;
  return kSuccess;
}

Status count_free_bytes(int64_t* num_bytes) {
  const std::lock_guard lock(mutex);
  *num_bytes = kDeviceBytes - allocated_bytes;
  return kSuccess;
}

const char* error_text(Status status) {
  switch (status) {
    case kSuccess:
      return "no error";
    case kInvalidValue:
      return "invalid argument";
    case kOutOfMemory:
      return "out of memory";
    case kInvalidConfiguration:
      return "the host refuses the launch's grid, threads or block memory";
    case kInvalidDevice:
      return "there is one device, 0";
    case kLaunchFailure:
      return last_failure().empty() ? "a kernel failed" : last_failure().c_str();
    case kCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case kCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case kNotSupported:
      return "operation not supported";
    default:
      return "unknown error";
  }
}

Status allocate(void** data, size_t bytes) {
  *data = nullptr;
  if (bytes == 0) return kSuccess;
  if (bytes > static_cast<size_t>(kDeviceBytes)) return kOutOfMemory;
  const size_t wanted = round_up(bytes, 16);
  const size_t mapped = round_up(wanted, kPageBytes);
  const std::lock_guard lock(mutex);
  if (allocated_bytes + static_cast<int64_t>(mapped) > kDeviceBytes) return kOutOfMemory;
  void* memory = mmap(nullptr, mapped + kPageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return kOutOfMemory;
  if (mprotect(memory, mapped, PROT_READ | PROT_WRITE) != 0) {
    munmap(memory, mapped + kPageBytes);
    return kOutOfMemory;
  }
  auto* begin = static_cast<unsigned char*>(memory);
  std::memset(begin, 0xff, mapped);
  allocated_bytes += static_cast<int64_t>(mapped);
  mappings[begin + mapped - wanted] = {begin, mapped};
  *data = begin + mapped - wanted;
  return kSuccess;
}

Status release(void* data) {
  if (data == nullptr) return kSuccess;
  const Status finished = finish_streams();  // as a device does
  const std::lock_guard lock(mutex);
  const auto found = mappings.find(static_cast<unsigned char*>(data));
  if (found == mappings.end()) return kInvalidValue;
  const auto [begin, bytes] = found->second;
  const bool is_front_whole =
      std::all_of(begin, found->first, [](unsigned char b) { return b == 0xff; });
  munmap(begin, bytes + kPageBytes);
  allocated_bytes -= static_cast<int64_t>(bytes);
  mappings.erase(found);
  return is_front_whole ? finished : kLaunchFailure;
}

Status copy(void* to, const void* from, size_t bytes, Stream stream) {
  return put(stream, [to, from, bytes] {
    if (bytes > 0) std::memcpy(to, from, bytes);
    return kSuccess;
  });
}

Status copy_on_device(void* to, const void* from, size_t bytes, Stream stream) {
  return put(stream, [to, from, bytes] {
    std::memcpy(to, from, bytes);
    return kSuccess;
  });
}

}  // namespace

DeviceApi memory_api() {
  DeviceApi api;
  api.version = kDeviceApiVersion;
  api.count_devices = &count_devices;
  api.describe = &describe;
  api.count_free_bytes = &count_free_bytes;
  api.use = &use;
  api.error_text = &error_text;
  set_streams(api);
  api.allocate = &allocate;
  api.release = &release;
  api.allocate_host = &allocate;
  api.release_host = &release;
  api.copy_to_device = &copy;
  api.copy_to_host = &copy;
  api.copy_on_device = &copy_on_device;
  return api;
}

}  // namespace sluice::kernels::cuda::host
