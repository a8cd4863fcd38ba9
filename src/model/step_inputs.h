#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/device.h"
#include "model/step_batch.h"
#include "model/straight_program.h"

namespace sluice::model {

// How large a step's tensors are.
struct StepShape {
  int64_t num_tokens = 0;     // T
  int64_t num_sequences = 0;  // B
  int64_t max_blocks = 0;     // M
  int64_t num_logits = 0;     // R

  bool operator==(const StepShape&) const = default;
};

StepShape shape_of(const StepBatch& batch);

// A step's numbers as the tensors that a program gets: parts of one piece of the device's memory,
// which a single copy fills.
class StepInputs final {
 public:
  // `device` must outlive this.
  explicit StepInputs(kernels::Device& device);

  // New, empty tensors, and the cache as it is given.
  void create(const std::vector<at::Tensor>& cache);
  void clear();

  // Gives the tensors the step's content and sizes. Throws without memory.
  // `shape`: the batch's own; or a larger one, if all sequences of both have one token and one row
  // of logits: those that are added are alike and keep their token in `spare_block`. Where numbers
  // lie depends on the shape alone, unless the memory has to grow. A GPU may still have to copy
  // them when the next step is filled in, not when the one after that is.
  void fill(const StepBatch& batch, const StepShape& shape, int32_t spare_block);

  const ProgramInputs& tensors() const { return tensors_; }

 private:
  void make_room(const StepBatch& batch, const StepShape& shape);

  kernels::Device& device_;
  ProgramInputs tensors_;
  std::vector<at::Tensor> parts_;                 // tokens, positions, then the plan
  at::Tensor memory_;                             // int32
  std::unique_ptr<kernels::Staging> staging_[2];  // a GPU's, in turns
  size_t next_staging_ = 0;
};

}  // namespace sluice::model
