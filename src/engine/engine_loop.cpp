#include "engine/engine_loop.h"

#include <algorithm>
#include <utility>

namespace sluice::engine {
namespace {

// An idle loop still ticks this often, so that its heartbeat shows that it lives.
constexpr base::Duration kIdleTick = std::chrono::milliseconds(250);

float in_microseconds(base::Duration duration) {
  return std::chrono::duration<float, std::micro>(duration).count();
}

}  // namespace

EngineLoop::EngineLoop(std::vector<std::unique_ptr<Lane>> lanes, std::shared_ptr<EngineQueue> queue,
                       const base::Clock& clock, OutputSink& sink, Instruments instruments)
    : lanes_(std::move(lanes)),
      queue_(std::move(queue)),
      clock_(clock),
      sink_(sink),
      instruments_(instruments) {
  heartbeat_.store(clock_.now().time_since_epoch().count(), std::memory_order_relaxed);
  last_step_.store(heartbeat_.load(std::memory_order_relaxed), std::memory_order_relaxed);
}

bool EngineLoop::tick() {
  heartbeat_.store(clock_.now().time_since_epoch().count(), std::memory_order_relaxed);
  queue_->pop_all(incoming_);
  accept_new();
  bool has_run = false;
  for (size_t i = 0; i < lanes_.size(); ++i) {
    has_run |= step_lane(i);
    if (lanes_[i]->lost().empty()) continue;
    lose(lanes_[i]->lost());
    return false;
  }
  return has_run;
}

void EngineLoop::accept_new() {
  for (NewSequences& request : incoming_) {
    if (instruments_.metrics != nullptr) {
      instruments_.metrics->model(request.lane_idx)
          .num_arriving.fetch_sub(static_cast<int32_t>(request.completions.size()),
                                  std::memory_order_relaxed);
    }
    lanes_[request.lane_idx]->add(std::move(request.completions));
  }
  incoming_.clear();
}

bool EngineLoop::step_lane(size_t lane_idx) {
  Lane& lane = *lanes_[lane_idx];
  if (lane.is_empty() && lane.events().empty()) return false;
  const base::TimePoint start = clock_.now();
  const StepTimes times = lane.step(start, clock_, last_collected_);
  // Before anybody learns of it by an end.
  if (!lane.lost().empty()) is_lost_.store(true, std::memory_order_release);
  if (!lane.events().empty()) {
    const observability::ProfiledPart part(instruments_.profiler, "hand-over");
    sink_.publish(lane.events());
  }
  if (times.num_tokens == 0) return lane.has_step_under_way();
  const base::TimePoint end = clock_.now();
  const base::Duration whole = end - start;
  last_step_.store(end.time_since_epoch().count(), std::memory_order_relaxed);
  if (instruments_.profiler != nullptr) {
    instruments_.profiler->end_step(times.is_decode ? "decode" : "prefill", times.num_tokens,
                                    whole);
  }
  if (instruments_.metrics != nullptr) {
    ModelMetrics& metrics = instruments_.metrics->model(lane_idx);
    metrics.step_duration.observe_alone(base::in_seconds(whole));
    metrics.step_tokens.observe_alone(static_cast<double>(times.num_tokens));
    metrics.step_sequences.observe_alone(static_cast<double>(times.num_sequences));
  }
  step_ms_.add(in_microseconds(whole) / 1000);
  engine_us_.add(in_microseconds(whole - times.executor));
  num_steps_.fetch_add(1, std::memory_order_relaxed);
  num_tokens_.fetch_add(times.num_tokens, std::memory_order_relaxed);
  return true;
}

void EngineLoop::run() {
  while (!is_stopping_.load(std::memory_order_acquire)) {
    if (!tick()) wait();
  }
  end_all({ErrorCode::kUnavailable, "the server is shutting down"});
}

// All lanes compute on the device that one of them has lost.
void EngineLoop::lose(const std::string& why) {
  if (std::exchange(has_told_, true)) return;
  end_all({ErrorCode::kUnavailable, "the server has lost the device that it computes on"});
  is_stopping_.store(true, std::memory_order_release);
  if (instruments_.on_lost) instruments_.on_lost(why);
}

void EngineLoop::wait() {
  base::Duration timeout = kIdleTick;
  const base::TimePoint now = clock_.now();
  for (const auto& lane : lanes_) {
    const base::TimePoint next = lane->next_timeout();
    if (next < now + timeout) timeout = std::max(base::Duration(0), next - now);
  }
  queue_->wait_pop_all(incoming_, timeout);
  accept_new();
}

void EngineLoop::end_all(const Error& error) {
  queue_->close();
  queue_->pop_all(incoming_);
  accept_new();
  for (const auto& lane : lanes_) {
    lane->end_all(error);
    if (!lane->events().empty()) sink_.publish(lane->events());
  }
}

void EngineLoop::stop() {
  is_stopping_.store(true, std::memory_order_release);
  queue_->wake();
}

base::TimePoint EngineLoop::heartbeat() const {
  return base::TimePoint(base::Duration(heartbeat_.load(std::memory_order_relaxed)));
}

base::TimePoint EngineLoop::last_step() const {
  return base::TimePoint(base::Duration(last_step_.load(std::memory_order_relaxed)));
}

}  // namespace sluice::engine
