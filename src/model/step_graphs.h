#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/FunctionRef.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "model/step_inputs.h"

namespace sluice::model {

// Decode steps that a device makes from a recording: the host asks for one thing where a program
// asks for hundreds. What differs from step to step lies in the device's memory, at the same
// addresses; how much there is goes into few shapes, each a little larger than the steps in it
// (a row's bits do not depend on what else is in a step).
//
// A shape's first step runs as it is, so that memory grows where it must; its second one is
// recorded; the others are played. Where the device's memory has changed meanwhile, that begins
// anew, for all shapes. What cannot be recorded or played runs as it is.
//
// Threads: one.
class StepGraphs final {
 public:
  // `device` must outlive this.
  explicit StepGraphs(kernels::Device& device) : device_(device) {}

  // The shape that a step of this one takes: of single tokens, those that are recorded; else, or
  // on a device that cannot record, its own.
  StepShape shape_for(const StepShape& step) const;
  // The sizes of batches that are recorded, ascending, up to the one for `most`.
  static std::vector<int64_t> batch_sizes(int64_t most);

  // What `program` returns, whose calls depend on the shape alone: its own tensor, or one with the
  // same content where it was recorded, valid until the next step.
  at::Tensor run(const StepShape& shape, c10::function_ref<at::Tensor()> program);

  void clear() { entries_.clear(); }
  int64_t num_played() const { return num_played_; }  // steps
  // Why a shape could not be recorded or played, the newest one; empty as long as all could.
  const std::string& why_not_recorded() const { return why_not_recorded_; }

 private:
  struct Entry {
    StepShape shape;
    int64_t last_step = 0;
    bool has_run = false;
    bool is_recordable = true;  // as far as is known
    std::unique_ptr<kernels::Recording> recording = nullptr;
    at::Tensor result = {};  // does not own its memory
  };
  bool records(const StepShape& step) const;
  Entry& entry_for(const StepShape& shape);
  void record(Entry& entry, c10::function_ref<at::Tensor()> program);
  void give_up(Entry& entry, std::string why);
  void forget_all_but(const StepShape* shape);

  kernels::Device& device_;
  std::vector<Entry> entries_;
  uint64_t memory_changes_ = 0;  // that the entries know of
  int64_t num_steps_ = 0;
  int64_t num_played_ = 0;
  std::string why_not_recorded_;
};

}  // namespace sluice::model
