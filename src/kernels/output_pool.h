#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sluice::kernels {

class Device;

// Tensors for the operators' results, given out again as soon as nobody else holds them: a step
// like the one before allocates nothing and touches no new page.
//
// It grows to what the largest step holds at one time, and keeps that. A device whose calls come in
// one order may get a tensor again whose call is still under way.
// Threads: one.
class OutputPool final {
 public:
  // `device` must outlive the pool.
  explicit OutputPool(Device& device) : device_(device) {}

  // A contiguous tensor with undefined content. Its sizes may differ from call to call.
  // Requires: at most 5 dimensions.
  at::Tensor take(at::IntArrayRef sizes, at::ScalarType dtype);

  size_t size() const { return entries_.size(); }
  const Device& device() const { return device_; }

 private:
  struct Entry {
    at::Tensor tensor;
    int64_t capacity = 0;  // elements
  };
  static bool is_free(const Entry& entry, at::ScalarType dtype);

  Device& device_;
  std::vector<Entry> entries_;
};

// While it lives, empty_output() on this thread takes from `pool`.
class OutputScope final {
 public:
  explicit OutputScope(OutputPool& pool);
  ~OutputScope();
  OutputScope(const OutputScope&) = delete;
  OutputScope& operator=(const OutputScope&) = delete;

 private:
  OutputPool* previous_;
};

// A tensor for an operator's result: from the pool in force on this thread if that is the device's,
// else a new one.
at::Tensor empty_output(at::IntArrayRef sizes, at::ScalarType dtype, Device& device);
at::Tensor empty_output(at::IntArrayRef sizes, at::ScalarType dtype);  // of the CPU

}  // namespace sluice::kernels
