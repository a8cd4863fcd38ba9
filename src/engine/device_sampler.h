#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "sampling/sampler.h"

namespace sluice::engine {

// sampling::sample_rows() on a GPU: the same results, bit for bit, without the logits' way to the
// host, and for two steps under way (StepExecutor).
//
// Threads: one, the engine's.
class DeviceSampler final {
 public:
  // `device` must outlive this.
  explicit DeviceSampler(kernels::cuda::CudaDevice& device);

  // Puts into tokens [T] int32 on the device, in the place of each -1 - r, what row r of the step
  // under way draws.
  void feed(const at::Tensor& tokens);

  // Brings the tasks of the next start() to the device: before the step whose logits they are for,
  // so that no copy stands between that and its sampling. Of a task whose sequence's last token is
  // drawn by the step under way, `last_tokens` has that as -1 - r; its counts lack it. Throws
  // c10::Error.
  // Requires: as sample_rows(), but for the tasks' own pointers to logits, which are not looked at;
  // last_tokens.size() == tasks.size(); at most one step is under way.
  void prepare(std::span<const sampling::RowTask> tasks, std::span<const int32_t> last_tokens);

  // Does every task on row after row of `logits`, float32 of `vocabulary_size` columns, which are
  // only read. Throws c10::Error if something cannot be started on the device; then nothing more is
  // under way.
  // Requires: prepare() was called.
  void start(const at::Tensor& logits);

  // Waits for the results of the oldest start(), valid until the next start() but one. Throws
  // c10::Error if something failed on the device.
  std::span<sampling::RowResult> finish();

 private:
  // A step: what the device has for the host, and for the step after it.
  struct Step {
    explicit Step(kernels::cuda::CudaDevice& device)
        : staging(device.make_staging()), copy(device) {}

    std::unique_ptr<kernels::Staging> staging;
    at::Tensor output;  // bytes: results, then the rows' best
    kernels::cuda::HostCopy copy;
    kernels::cuda::SampleArgs args;  // as far as they are known before the logits
    std::vector<kernels::cuda::SampleRow> rows;
    std::vector<sampling::RowResult> results;
  };
  void describe(std::span<const sampling::RowTask> tasks, std::span<const int32_t> last_tokens,
                Step& step);
  void add_lists(const sampling::RowTask& task, kernels::cuda::SampleRow& row);
  void upload(Step& step);
  // The one under way that was started first.
  Step& oldest() { return steps_[num_under_way_ == 2 ? next_ : 1 - next_]; }

  kernels::cuda::CudaDevice& device_;
  Step steps_[2];
  size_t next_ = 0;
  int num_under_way_ = 0;
  // What the device gets beside a step's rows, reused from step to step.
  std::vector<kernels::cuda::SampleCount> counts_;
  std::vector<kernels::cuda::SampleBias> biases_;
  std::vector<int32_t> forbidden_;
  int32_t num_top_ = 0;
  bool draws_ = false;
  bool scores_ = false;
  bool follows_ = false;  // a row has a previous_row
  at::Tensor input_;      // bytes of the device: the rows and the three lists above
};

}  // namespace sluice::engine
