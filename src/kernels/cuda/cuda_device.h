#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cuda/device_api.h"
#include "kernels/device.h"

namespace sluice::kernels::cuda {

class HostCopy;

// One GPU, its stream, and the memory that all calls share. LibTorch's own CUDA half is not loaded:
// its tensors here are ours in all but their class (decision 22).
class CudaDevice final : public Device {
 public:
  // A weight's memory and what it means.
  struct PackedWeight {
    Weight description;
    at::Tensor tiles;
    at::Tensor scales;       // of what is quantized
    at::Tensor multipliers;  // int4
  };
  // What a quantized weight has beside its tiles, in the CPU's memory.
  struct QuantizedParts {
    std::vector<float> scales;
    std::vector<uint8_t> multipliers;
  };

  // The device `ordinal`: the same object at each call, which lives to the process's end.
  // kFailedPrecondition, with the reason: no such device, too old, not to be opened.
  static Result<CudaDevice*> open(const DeviceApi& api, int32_t ordinal);
  ~CudaDevice() override;

  const std::string& name() const override { return name_; }
  bool is_cpu() const override { return false; }
  const std::string& profile() const override { return profile_; }
  int64_t total_bytes() const override { return info_.total_bytes; }
  int64_t free_bytes() const override;
  const DeviceInfo& info() const { return info_; }

  Float8Product float8_product() const override;
  at::Tensor allocate(at::IntArrayRef sizes, at::ScalarType dtype) override;
  Result<at::Tensor> pack(const at::Tensor& weight) override;
  Result<at::Tensor> pack(const QuantizedWeight& weight, at::ScalarType activations) override;
  at::Tensor upload(const at::Tensor& tensor) override;
  void copy_to(const at::Tensor& tensor, const void* host, size_t num_bytes) override;
  at::Tensor download(const at::Tensor& tensor) override;
  void synchronize() override;
  std::unique_ptr<Staging> make_staging() override;
  Result<std::unique_ptr<Recording>> record(c10::function_ref<void()> calls) override;
  // Not with SLUICE_CUDA_GRAPHS=0, which is for finding faults.
  bool can_record() const override;
  void play(const Recording& recording) override;
  bool take_refusal() override { return was_refused_.exchange(false, std::memory_order_relaxed); }
  uint64_t memory_changes() const override {
    return memory_changes_.load(std::memory_order_relaxed);
  }

  // Copies a tensor of the device to another of as many bytes.
  void copy(const at::Tensor& to, const at::Tensor& from);

  // Device memory that is one call's until the next call of the stream that asks for some.
  void* workspace(int64_t num_bytes);

  // Puts a kernel of the table into the stream. Throws c10::Error if it cannot be started.
  template <typename Args>
  void run(Status (*kernel)(const Args&, Stream), const Args& args) {
    use();
    check(kernel(args, stream_));
  }
  const DeviceApi& api() const { return api_; }

 private:
  // Memory that only grows; the device is never destroyed.
  struct Memory {
    void* data = nullptr;
    size_t bytes = 0;
  };

  friend class HostCopy;
  class HostStaging;

  CudaDevice(const DeviceApi& api, int32_t ordinal, const DeviceInfo& info, Stream stream);
  static void release_memory(void* owner);
  Status select() const;
  void use() const;
  void check(Status status) const;
  void grow(Memory& memory, size_t num_bytes, Status (*allocate)(void**, size_t),
            Status (*release)(void*));
  void grow_host(Memory& memory, size_t num_bytes);
  void release_host(Memory& memory) const;
  void pack_tiles(const at::Tensor& rows, void* tiles, const Weight& description);
  at::Tensor as_tensor(PackedWeight weight) const;
  Result<at::Tensor> pack_rows(PackedWeight weight, const at::Tensor& rows,
                               const QuantizedParts& parts);

  const DeviceApi& api_;
  int32_t ordinal_;
  DeviceInfo info_;
  Stream stream_;
  std::string name_;
  std::string profile_;
  std::atomic<uint64_t> memory_changes_{0};
  mutable std::atomic<bool> was_refused_{false};
  Memory workspace_;
  std::unique_ptr<HostCopy> download_;
};

// What lies on a device, on its way to the CPU's memory: behind all calls before it, and whatever
// is called after it.
class HostCopy final {
 public:
  // `device` must outlive this.
  explicit HostCopy(CudaDevice& device) : device_(device) {}
  HostCopy(const HostCopy&) = delete;
  HostCopy& operator=(const HostCopy&) = delete;
  ~HostCopy();

  // Begins to copy the first bytes of a tensor. Throws c10::Error.
  void start(const at::Tensor& tensor, size_t num_bytes);
  // Waits for what was started last; valid until the next start(). Throws c10::Error if that, or a
  // call before it, failed.
  const std::byte* wait();

 private:
  CudaDevice& device_;
  CudaDevice::Memory memory_;  // the host's
  Event event_ = nullptr;
};

// The device that holds `tensor`. Throws c10::Error if it is on no device that is open.
CudaDevice& device_of(const at::Tensor& tensor);

// A weight packed for a device; its memory lives as long as its tensor.
// What `tensor` packs, or nothing for a plain tensor.
std::optional<Weight> packed_weight(const at::Tensor& tensor);
int64_t packed_bytes(const at::Tensor& tensor);

}  // namespace sluice::kernels::cuda
