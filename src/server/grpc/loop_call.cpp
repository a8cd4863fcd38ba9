#include "server/grpc/loop_call.h"

#include <grpc/support/time.h>

namespace sluice::server {
namespace {

// Longer requests are parsed and tokenized on a worker.
constexpr size_t kShortRequestBytes = 16 << 10;

}  // namespace

LoopEvent* LoopCall::wait_for_call() {
  self_ = shared_from_this();
  loop_->begin_call();
  rpc_->context.AsyncNotifyWhenDone(&done_event_);
  return call_event_.due();
}

void LoopCall::on_answer(bool ok) {
  if (!ok) {  // the server shuts down, and nothing else comes of this one
    is_finished_ = true;
    return;
  }
  done_event_.due();
  socket_ = loop_->connections().find(rpc_->context.peer()).value_or(OpenSocket{});
  on_call();
}

// Comes once for every call, whoever ended it.
void LoopCall::on_done(bool /*ok*/) {
  if (rpc_->context.IsCancelled()) abandon();
  resume();
}

void LoopCall::resume() {
  {
    const std::scoped_lock lock(mutex_);
    is_woken_ = false;
  }
  if (!is_finished_) advance();
}

void LoopCall::abandon() {
  {
    const std::scoped_lock lock(mutex_);
    is_cancelled_ = true;
  }
  cancel_requests();
}

void LoopCall::wake() {
  {
    const std::scoped_lock lock(mutex_);
    if (!needs_wake()) return;
  }
  loop_->wake(shared_from_this());
}

void LoopCall::begin_submit(size_t request_bytes) {
  {
    const std::scoped_lock lock(mutex_);
    is_submitting_ = true;
  }
  const auto run = [self = shared_from_this()] {
    self->submit();
    {
      const std::scoped_lock lock(self->mutex_);
      self->is_submitting_ = false;
    }
    self->wake();
  };
  if (request_bytes <= kShortRequestBytes) return run();
  loop_->post(run);
}

void LoopCall::set_timer(std::chrono::nanoseconds time) {
  is_timer_due_ = true;
  rpc_->alarm.Set(
      loop_->queue(),
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(time.count(), GPR_TIMESPAN)),
      timer_event_.due());
}

void LoopCall::on_timer(bool is_expired) {
  is_timer_due_ = false;
  if (is_expired) on_time();
}

void LoopCall::let_go_if_over() {
  if (!is_finished_) return;
  if (is_timer_due_ && num_due_ == 1) rpc_->alarm.Cancel();  // which is an event too
  if (num_due_ > 0) return;
  // What goes, goes after the lock: self may be all that holds this object.
  const std::shared_ptr<LoopCall> self = std::move(self_);
  std::unique_ptr<Rpc> rpc;
  const std::scoped_lock lock(mutex_);
  is_closed_ = true;
  rpc = std::move(rpc_);
  loop_->end_call();
}

}  // namespace sluice::server
