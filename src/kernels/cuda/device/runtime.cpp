#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda/device/awaited.cuh"
#include "kernels/cuda/device/kernels.h"

// What libsluice_cuda.so exports: NVIDIA's runtime, linked statically, and the kernels.
namespace sluice::kernels::cuda {
namespace {

cudaStream_t of(Stream stream) {
  return static_cast<cudaStream_t>(stream);
}

Status count_devices(int32_t* count) {
  int found = 0;
  const cudaError_t status = cudaGetDeviceCount(&found);
  *count = status == cudaSuccess ? found : 0;
  return status == cudaErrorNoDevice ? cudaSuccess : status;
}

Status describe(int32_t ordinal, DeviceInfo* info) {
  cudaDeviceProp properties{};
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, ordinal);
      status != cudaSuccess) {
    return status;
  }
  std::snprintf(info->name, sizeof(info->name), "%s", properties.name);
  info->compute_major = properties.major;
  info->compute_minor = properties.minor;
  info->num_multiprocessors = properties.multiProcessorCount;
  info->total_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  int driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess) info->driver_version = driver;
  return cudaSuccess;
}

Status use(int32_t ordinal) {
  return cudaSetDevice(ordinal);
}

Status count_free_bytes(int64_t* num_bytes) {
  size_t free = 0;
  size_t total = 0;
  const cudaError_t status = cudaMemGetInfo(&free, &total);
  *num_bytes = static_cast<int64_t>(free);
  return status;
}

const char* error_text(Status status) {
  return cudaGetErrorString(static_cast<cudaError_t>(status));
}

// Apart from the default stream, which would wait for others.
Status create_stream(Stream* stream) {
  cudaStream_t created = nullptr;
  const cudaError_t status = cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking);
  *stream = created;
  return status;
}

Status destroy_stream(Stream stream) {
  return cudaStreamDestroy(of(stream));
}

Status synchronize(Stream stream) {
  return cudaStreamSynchronize(of(stream));
}

// Only waited for: it has no time, and waiting for it leaves the processor to others.
Status create_event(Event* event) {
  cudaEvent_t created = nullptr;
  const cudaError_t status =
      cudaEventCreateWithFlags(&created, cudaEventDisableTiming | cudaEventBlockingSync);
  *event = created;
  return status;
}

Status destroy_event(Event event) {
  return cudaEventDestroy(static_cast<cudaEvent_t>(event));
}

Status record_event(Event event, Stream stream) {
  return cudaEventRecord(static_cast<cudaEvent_t>(event), of(stream));
}

Status wait_for_event(Event event) {
  return cudaEventSynchronize(static_cast<cudaEvent_t>(event));
}

// Relaxed: other threads allocate memory as they like meanwhile.
Status begin_capture(Stream stream) {
  return cudaStreamBeginCapture(of(stream), cudaStreamCaptureModeRelaxed);
}

Status end_capture(Stream stream, Graph* graph) {
  *graph = nullptr;
  cudaGraph_t captured = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(of(stream), &captured);
  if (ended != cudaSuccess) return ended;
  cudaGraphExec_t made = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&made, captured, 0);
  const cudaError_t destroyed = cudaGraphDestroy(captured);
  *graph = made;
  return status != cudaSuccess ? status : destroyed;
}

Status launch_graph(Graph graph, Stream stream) {
  return cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), of(stream));
}

Status destroy_graph(Graph graph) {
  return cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
}

Status allocate(void** data, size_t bytes) {
  return cudaMalloc(data, bytes);
}

Status release(void* data) {
  return cudaFree(data);
}

Status allocate_host(void** data, size_t bytes) {
  return cudaMallocHost(data, bytes);
}

Status release_host(void* data) {
  return cudaFreeHost(data);
}

Status copy_to_device(void* to, const void* from_host, size_t bytes, Stream stream) {
  return cudaMemcpyAsync(to, from_host, bytes, cudaMemcpyHostToDevice, of(stream));
}

Status copy_to_host(void* to_host, const void* from, size_t bytes, Stream stream) {
  return cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, of(stream));
}

Status copy_on_device(void* to, const void* from, size_t bytes, Stream stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, of(stream));
}

DeviceApi make_api() {
  DeviceApi api;
  api.count_devices = &count_devices;
  api.describe = &describe;
  api.use = &use;
  api.count_free_bytes = &count_free_bytes;
  api.error_text = &error_text;
  api.create_stream = &create_stream;
  api.destroy_stream = &destroy_stream;
  api.synchronize = &synchronize;
  api.create_event = &create_event;
  api.destroy_event = &destroy_event;
  api.record_event = &record_event;
  api.wait_for_event = &wait_for_event;
  api.begin_capture = &begin_capture;
  api.end_capture = &end_capture;
  api.launch_graph = &launch_graph;
  api.destroy_graph = &destroy_graph;
  api.allocate = &allocate;
  api.release = &release;
  api.allocate_host = &allocate_host;
  api.release_host = &release_host;
  api.copy_to_device = &copy_to_device;
  api.copy_to_host = &copy_to_host;
  api.copy_on_device = &copy_on_device;
  set_kernels(api);
  return api;
}

constexpr int kMostDevices = 64;  // beyond them kernels start in turn

}  // namespace

// A device's first kernel answers for all: they are compiled for the same devices. A driver that
// makes code of an older device's has left out the waiting (ptxVersion is what it was made of), and
// SLUICE_CUDA_DEPENDENT_LAUNCH=0 is for measuring what it gives, and for doing without it.
bool may_start_early(const void* kernel) {
  static const bool is_wished = [] {
    const char* wish = std::getenv("SLUICE_CUDA_DEPENDENT_LAUNCH");
    return wish == nullptr || std::strcmp(wish, "0") != 0;
  }();
  enum : int8_t { kUnknown, kNo, kYes };
  static std::array<std::atomic<int8_t>, kMostDevices> answers;
  int device = 0;
  if (!is_wished || cudaGetDevice(&device) != cudaSuccess || device >= kMostDevices) return false;
  std::atomic<int8_t>& answer = answers[static_cast<size_t>(device)];
  if (answer.load() == kUnknown) {
    cudaFuncAttributes attributes{};
    const bool may = cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess &&
                     attributes.ptxVersion >= 90 && attributes.binaryVersion >= 90;
    answer.store(may ? kYes : kNo);
  }
  return answer.load() == kYes;
}

}  // namespace sluice::kernels::cuda

extern "C" __attribute__((visibility("default"))) const sluice::kernels::cuda::DeviceApi*
sluice_cuda_device_api() {
  static const sluice::kernels::cuda::DeviceApi api = sluice::kernels::cuda::make_api();
  return &api;
}
