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

// Runs steps of one model: logits, then the draws from them.
//
// Split in two so that an executor on another device may compute while the engine does something
// else between the calls. Where two steps may be under way, the second one's tokens may be drawn by
// the first: a token -1 - r of its batch is what row r of the first one draws.
// Threads: the engine's.
class StepExecutor {
 public:
  virtual ~StepExecutor() = default;

  // How many steps may be launched and not collected: 1 or 2.
  virtual int max_under_way() const { return 1; }

  // Starts a step. `input` must not change until it is collected. What its tasks point to is looked
  // at now, if two steps may be under way; else it must stay until then too. Errors as collect()'s,
  // about this step, which then is not under way.
  virtual Result<void> launch(StepInput& input) = 0;
  // Waits for the oldest step under way. One result for each of input.rows, valid until the next
  // launch() but one (the next, if one step may be under way); the caller may move them out. An
  // error (its message is for the operator, not for clients) means that no row has a result; the
  // executor can be used again, unless it is kUnavailable: the device is lost, and no later step
  // can succeed. kResourceExhausted: there was no memory for as large a step.
  virtual Result<std::span<sampling::RowResult>> collect() = 0;
};

}  // namespace sluice::engine
