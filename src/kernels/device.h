#pragma once

#include <ATen/core/Tensor.h>

#include <c10/util/FunctionRef.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/quantize.h"
#include "sluice/error.h"

namespace sluice::kernels {

// Host memory from which a device copies without a copy of its own.
class Staging {
 public:
  Staging() = default;
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  virtual ~Staging() = default;

  // At least so many bytes; their content is lost when it grows. Throws as Device::allocate().
  virtual std::byte* room_for(size_t num_bytes) = 0;
};

// Calls that a device has kept, to make them again and again.
class Recording {
 public:
  Recording() = default;
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  virtual ~Recording() = default;
};

// How a device multiplies fp8 weights with fp8 activations (quantize.h).
enum class Float8Product : uint8_t {
  kNone,
  kConverted,  // as two products of float16, which is no faster than to keep the activations
  kNative,
};

// Where a model computes: the memory of its tensors, the layout of its weights, the name of its
// arithmetic. One object a device and process; it lives to the process's end.
//
// Threads: one at a time.
class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  virtual const std::string& name() const = 0;  // "cpu", "cuda:0"
  virtual bool is_cpu() const = 0;

  // Name of the kernels' arithmetic: same name and same package = same bits.
  virtual const std::string& profile() const = 0;

  virtual int64_t total_bytes() const = 0;
  virtual int64_t free_bytes() const = 0;  // that can be had now

  // A contiguous tensor with undefined content. Throws c10::Error or std::bad_alloc without memory.
  virtual at::Tensor allocate(at::IntArrayRef sizes, at::ScalarType dtype) = 0;

  virtual Float8Product float8_product() const = 0;

  // packed_weight.h: a weight of the CPU's memory, packed for this device.
  virtual Result<at::Tensor> pack(const at::Tensor& weight) = 0;
  virtual Result<at::Tensor> pack(const QuantizedWeight& weight, at::ScalarType activations) = 0;

  // The CPU's contiguous tensor in this device's memory: itself on the CPU. Throws as allocate().
  virtual at::Tensor upload(const at::Tensor& tensor) = 0;

  // A device that is not the CPU: copies in the order of the operators' calls; `host` must stay as
  // it is until something after it was waited for. Throws c10::Error.
  virtual void copy_to(const at::Tensor& tensor, const void* host, size_t num_bytes) = 0;

  // The tensor in the CPU's memory, valid until the next call; waits for all calls before it.
  // Throws c10::Error if one of them failed.
  virtual at::Tensor download(const at::Tensor& tensor) = 0;

  // Waits for all calls before it, of which the CPU has none. Throws c10::Error if one failed.
  virtual void synchronize() = 0;

  virtual std::unique_ptr<Staging> make_staging() = 0;

  // Keeps what `calls` asks of the device instead of doing it: its operators' calls, with the
  // addresses that they have now. kFailedPrecondition, in the device's words: it cannot, or not
  // these, because they wait for something, ask for memory or throw.
  virtual Result<std::unique_ptr<Recording>> record(c10::function_ref<void()> calls) = 0;
  virtual bool can_record() const = 0;
  // Makes the calls. Throws c10::Error. Requires: memory_changes() is as it was at record().
  virtual void play(const Recording& recording) = 0;

  // Counts each time that memory of the device goes, after which a recording may have an address
  // that is nobody's.
  virtual uint64_t memory_changes() const = 0;

  // Whether memory was refused since the last call: an operator's error does not always say so.
  virtual bool take_refusal() = 0;
};

// The CPU. kFailedPrecondition where its kernels cannot run (compute.h).
Result<Device*> cpu_device();

}  // namespace sluice::kernels
