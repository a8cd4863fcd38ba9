#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "base/clock.h"
#include "engine/engine_metrics.h"
#include "engine/lane.h"
#include "engine/output_event.h"
#include "observability/sample_ring.h"
#include "observability/step_profiler.h"

namespace sluice::engine {

// A request's completions on their way from a front end to a lane.
struct NewSequences {
  size_t lane_idx = 0;
  std::vector<std::unique_ptr<sequence::Sequence>> completions;
};
// Shared, so that a call may wake the engine however long its owner keeps it.
using EngineQueue = base::BoundedQueue<NewSequences>;

// Who watches a loop; each may be null, and all must outlive it.
struct Instruments {
  observability::StepProfiler* profiler = nullptr;
  EngineMetrics* metrics = nullptr;
  // Called once, on the loop's thread, with the reason, when a device is lost and all has ended.
  std::function<void(const std::string&)> on_lost = nullptr;
};

// The one thread that computes: takes new requests, steps the lanes in turn while they have work,
// hands each step's events over, and sleeps when there is nothing to do.
//
// Threads: run() and tick() on one; the rest from any.
class EngineLoop final {
 public:
  // `clock` and `sink` must outlive this.
  EngineLoop(std::vector<std::unique_ptr<Lane>> lanes, std::shared_ptr<EngineQueue> queue,
             const base::Clock& clock, OutputSink& sink, Instruments instruments = {});

  // One round: new requests, then at most one step of each lane. False if no lane could run.
  bool tick();
  // Rounds until stop(), or until a lane has lost its device. Then everything that is left ends
  // with kUnavailable.
  void run();
  void stop();

  // When the last round began, and when the last step ended (at first: when this was made).
  base::TimePoint heartbeat() const;
  base::TimePoint last_step() const;
  bool is_lost() const { return is_lost_.load(std::memory_order_acquire); }
  const std::vector<std::unique_ptr<Lane>>& lanes() const { return lanes_; }

  // Since the start; times of the newest steps since the last call of take_*.
  int64_t num_steps() const { return num_steps_.load(std::memory_order_relaxed); }
  int64_t num_tokens() const { return num_tokens_.load(std::memory_order_relaxed); }
  std::vector<float> take_step_ms() { return step_ms_.take(); }
  std::vector<float> take_engine_us() { return engine_us_.take(); }

 private:
  void accept_new();
  bool step_lane(size_t lane_idx);
  void wait();
  void end_all(const Error& error);
  void lose(const std::string& why);

  std::vector<std::unique_ptr<Lane>> lanes_;
  std::shared_ptr<EngineQueue> queue_;
  const base::Clock& clock_;
  OutputSink& sink_;
  const Instruments instruments_;
  std::vector<NewSequences> incoming_;
  base::TimePoint last_collected_;  // of all lanes' steps
  std::atomic<bool> is_stopping_{false};
  std::atomic<bool> is_lost_{false};
  bool has_told_ = false;  // that it is lost
  std::atomic<base::Duration::rep> heartbeat_{0};
  std::atomic<base::Duration::rep> last_step_{0};
  std::atomic<int64_t> num_steps_{0};
  std::atomic<int64_t> num_tokens_{0};
  observability::SampleRing step_ms_{8192};
  observability::SampleRing engine_us_{8192};
};

}  // namespace sluice::engine
