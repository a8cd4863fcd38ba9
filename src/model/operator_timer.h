#pragma once

#include <ATen/record_function.h>

#include "kernels/device.h"
#include "observability/step_profiler.h"

namespace sluice::model {

// While it lives, every operator that the calling thread's program calls is timed, by name and
// shape: of its weight where it has one, of its input's rows otherwise. Operators that an operator
// calls count as part of it. What is not inside one is booked as "program" when this ends. A device
// that computes by itself is waited for after each operator, so that the time is the operator's.
class OperatorTimer final {
 public:
  // `profiler` may be null: then nothing is timed. One at a time in a thread.
  OperatorTimer(observability::StepProfiler* profiler, kernels::Device& device);
  ~OperatorTimer();
  OperatorTimer(const OperatorTimer&) = delete;
  OperatorTimer& operator=(const OperatorTimer&) = delete;

 private:
  observability::StepProfiler* profiler_;
  at::CallbackHandle callback_ = 0;
  base::TimePoint start_;
};

}  // namespace sluice::model
