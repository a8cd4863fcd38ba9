#pragma once

#include <span>
#include <vector>

#include "model/step_batch.h"
#include "sampling/sampler.h"
#include "sluice/error.h"

namespace sluice::engine {

// What one step computes and draws. Reused from step to step for its memory.
struct StepInput {
  model::StepBatch batch;
  // One for each entry of batch.logit_rows, in that order; the executor fills `logits` in.
  std::vector<sampling::RowTask> rows;

  void clear() {
    batch.clear();
    rows.clear();
  }
};

// Runs a step of one model: logits, then the draws from them.
//
// Split in two so that an executor on another device may compute while the engine does something
// else between the calls; one step at a time.
// Threads: the engine's.
class StepExecutor {
 public:
  virtual ~StepExecutor() = default;

  // Starts a step. `input` must not change until collect() has returned.
  virtual void launch(StepInput& input) = 0;
  // Waits for the step. One result for each of input.rows, valid until the next launch(); the
  // caller may move them out. An error (its message is for the operator, not for clients) means
  // that no row has a result; the executor can be used again, unless it is kUnavailable: the device
  // is lost, and no later step can succeed.
  virtual Result<std::span<sampling::RowResult>> collect() = 0;
};

}  // namespace sluice::engine
