#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "sampling/sampler.h"

namespace sluice::engine {

// sampling::sample_rows() on a GPU: the same results, bit for bit, without the logits' way to the
// host.
//
// Threads: one, the engine's.
class DeviceSampler final {
 public:
  // `device` must outlive this.
  explicit DeviceSampler(kernels::cuda::CudaDevice& device) : device_(device) {}

  // Does every task on row after row of `logits` [R, V] float32, which are only read; waits for the
  // results. Throws c10::Error if something failed on the device.
  // Requires: as sample_rows(), but for the tasks' own pointers to logits, which are not looked at.
  void sample(const at::Tensor& logits, std::span<const sampling::RowTask> tasks,
              std::span<sampling::RowResult> results);

 private:
  void describe(std::span<const sampling::RowTask> tasks);
  void add_lists(const sampling::RowTask& task, kernels::cuda::SampleRow& row);
  kernels::cuda::SampleArgs upload();
  void take(const sampling::RowTask& task, const kernels::cuda::SampleRow& row,
            const std::byte* data, sampling::RowResult& result) const;

  kernels::cuda::CudaDevice& device_;
  // What the device gets, reused from step to step.
  std::vector<kernels::cuda::SampleRow> rows_;
  std::vector<kernels::cuda::SampleCount> counts_;
  std::vector<kernels::cuda::SampleBias> biases_;
  std::vector<int32_t> forbidden_;
  int32_t num_top_ = 0;
  bool draws_ = false;
  bool scores_ = false;
  at::Tensor input_;   // bytes of the device: the four lists above
  at::Tensor output_;  // the same: results, then the rows' best
};

}  // namespace sluice::engine
