#include "model/operator_timer.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>

namespace sluice::model {
namespace {

// Of the program that this thread runs.
struct Running {
  observability::StepProfiler* profiler = nullptr;
  kernels::Device* device = nullptr;
  int depth = 0;
  base::Duration in_operators{0};
};
thread_local Running running;

struct Call final : at::ObserverContext {
  base::TimePoint start;
  std::string shape;
};

// "[3072, 1024]" for a weight, "[rows, 1024]" for rows without one.
std::string shape_of(c10::ArrayRef<const c10::IValue> inputs) {
  if (inputs.empty() || !inputs[0].isTensor()) return "";
  const at::Tensor& rows = inputs[0].toTensor();
  if (inputs.size() > 1 && inputs[1].isTensor()) {
    const at::Tensor& weight = inputs[1].toTensor();
    if (weight.defined() && weight.dim() == 2) {
      return "[" + std::to_string(weight.size(0)) + ", " + std::to_string(weight.size(1)) + "]";
    }
  }
  return rows.defined() && rows.dim() == 2 ? "[rows, " + std::to_string(rows.size(1)) + "]" : "";
}

std::unique_ptr<at::ObserverContext> on_begin(const at::RecordFunction& function) {
  if (running.depth++ > 0) return nullptr;
  auto call = std::make_unique<Call>();
  // The interpreter hands over its whole stack, of which the operator's arguments are the end.
  const auto stack = function.inputs();
  const size_t count = std::min(stack.size(), function.num_inputs());
  call->shape = shape_of(stack.slice(stack.size() - count));
  call->start = std::chrono::steady_clock::now();
  return call;
}

void on_end(const at::RecordFunction& function, at::ObserverContext* context) {
  --running.depth;
  const auto* call = static_cast<const Call*>(context);
  if (call == nullptr) return;
  running.device->synchronize();
  const base::Duration time = std::chrono::steady_clock::now() - call->start;
  std::string_view name = function.name();
  if (name.starts_with("sluice::")) name.remove_prefix(8);
  running.in_operators += time;
  running.profiler->add(name, call->shape, time);
}

}  // namespace

OperatorTimer::OperatorTimer(observability::StepProfiler* profiler, kernels::Device& device)
    : profiler_(profiler) {
  if (profiler_ == nullptr) return;
  running = {profiler_, &device};
  callback_ = at::addThreadLocalCallback(at::RecordFunctionCallback(on_begin, on_end)
                                             .needsInputs(true)
                                             .scopes({at::RecordScope::FUNCTION}));
  start_ = std::chrono::steady_clock::now();
}

OperatorTimer::~OperatorTimer() {
  if (profiler_ == nullptr) return;
  const base::Duration whole = std::chrono::steady_clock::now() - start_;
  at::removeCallback(callback_);
  profiler_->add("program", "", whole - running.in_operators);
  running = {};
}

}  // namespace sluice::model
