#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/device.h"
#include "model/step_batch.h"
#include "model/straight_program.h"

namespace sluice::model {

// A step's numbers as the tensors that a program gets: parts of one piece of the device's memory,
// which a single copy fills.
class StepInputs final {
 public:
  // `device` must outlive this.
  explicit StepInputs(kernels::Device& device) : device_(device) {}

  // New, empty tensors, and the cache as it is given.
  void create(const std::vector<at::Tensor>& cache);
  void clear();

  // Gives the tensors the step's content and sizes. Throws without memory.
  void fill(const StepBatch& batch);

  const ProgramInputs& tensors() const { return tensors_; }

 private:
  void make_room(const StepBatch& batch);

  kernels::Device& device_;
  ProgramInputs tensors_;
  std::vector<at::Tensor> parts_;  // tokens, positions, then the plan
  at::Tensor memory_;              // int32
};

}  // namespace sluice::model
