#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sluice::kernels {

// Tensors for the operators' results, given out again as soon as nobody else holds them: a step
// like the one before allocates nothing and touches no new page.
//
// It grows to what the largest step holds at one time, and keeps that. Large tensors lie in huge
// pages.
// Threads: one.
class OutputPool final {
 public:
  // A contiguous tensor with undefined content. Its sizes may differ from call to call.
  // Requires: at most 5 dimensions.
  at::Tensor take(at::IntArrayRef sizes, at::ScalarType dtype);

  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    at::Tensor tensor;
    int64_t capacity = 0;  // elements
  };
  static bool is_free(const Entry& entry, at::ScalarType dtype);

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

// A CPU tensor for an operator's result: from the pool in force on this thread, or a new one.
at::Tensor empty_output(at::IntArrayRef sizes, at::ScalarType dtype);

}  // namespace sluice::kernels
