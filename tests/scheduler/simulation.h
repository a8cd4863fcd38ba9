#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "scheduler/scheduler.h"
#include "tests/base/fake_clock.h"

namespace sluice::scheduler {

// A random workload on a scheduler with a fake model, a fake clock and fake readers, all drawn from
// one seed. Every step is checked; the first broken rule ends the run.
//
// The fake model keeps, in each place of each block, a hash of all tokens up to there, as keys and
// values depend on them. So a wrong, stale or overwritten place is seen when it is read. What it
// draws depends on the sequence's own tokens only, so that each output is known beforehand.
class Simulation final {
 public:
  explicit Simulation(uint64_t seed);

  // Runs until every request has ended. The broken rule, or empty.
  std::string run();

  // Over everything that was scheduled: equal seeds must give equal traces.
  uint64_t trace() const { return trace_; }

  struct Figures {
    int64_t steps = 0, preemptions = 0, shared_tokens = 0, pauses = 0, refused = 0;
    std::map<std::string, int64_t> ends;  // by cause
  };
  const Figures& figures() const { return figures_; }

 private:
  // One completion as the client and its reader see it.
  struct Stream {
    sequence::Sequence* sequence = nullptr;  // null once it ended
    std::shared_ptr<sequence::Signals> signals;
    std::vector<int32_t> tokens;   // prompt and what must be generated
    std::vector<uint64_t> hashes;  // of tokens[0 .. i]
    int32_t num_prompt = 0;
    int32_t num_emitted = 0;
    int32_t num_prompt_logits = 0;
    bool wants_prompt_logits = false;
    int32_t reads_per_turn = 0;  // tokens that its reader takes at a time; 0: never reads
    base::TimePoint deadline, cancel_at;
    sequence::StopSignal signal = sequence::StopSignal::kNone;
    bool is_signalled = false;
  };
  // What a step must not contradict, seen just before it.
  struct Before {
    bool was_running, is_paused, is_decode, was_started;
    int32_t num_computed;
  };
  using Random = std::mt19937_64;
  // Who is older: the turn, then the order of arrival.
  using Age = std::pair<uint64_t, uint64_t>;
  static Age age_of(const sequence::Sequence& sequence) {
    return {sequence.progress().turn, sequence.progress().order};
  }

  int32_t draw(int32_t from, int32_t to) {  // inclusive
    return from + static_cast<int32_t>(random_() % static_cast<uint64_t>(to - from + 1));
  }
  bool chance(int32_t percent) { return draw(1, 100) <= percent; }
  template <typename... Parts>
  bool broken(const Parts&... parts);

  SchedulerOptions draw_options();
  void arrive();
  sequence::SequenceSpec draw_spec(const std::vector<int32_t>& prompt);
  std::unique_ptr<sequence::Sequence> draw_completion(sequence::SequenceSpec spec, int32_t index);
  void read_and_signal();
  void step();
  void run_model(const StepSchedule& step);
  void run_rows(const ScheduledRows& rows);
  void draw_tokens(const StepSchedule& step);
  void end(const sequence::Sequence& sequence, const std::string& cause);

  void look_before();
  void check_ended(const StepSchedule& step);
  void check_budgets(const StepSchedule& step);
  void check_rows(const StepSchedule& step);
  void check_preempted();
  void check_order();
  void check_blocks();
  bool waits_for_sibling(const sequence::Sequence& sequence) const;
  void add_to_trace(uint64_t value);

  Stream& stream_of(const sequence::Sequence& sequence) {
    return streams_.at(sequence.progress().order);
  }
  uint64_t& place(const sequence::Sequence& sequence, int32_t position);

  Random random_;
  base::FakeClock clock_;
  SchedulerOptions options_;
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<uint64_t> places_;        // [N, S], the fake KV pool
  std::map<uint64_t, Stream> streams_;  // by order; those that ended are kept
  std::map<Age, Before> before_;        // the living, the oldest first
  std::vector<int32_t> last_prompt_;
  int32_t num_requests_left_ = 0;
  int32_t arrival_percent_ = 0;  // in each step
  int32_t num_clients_ = 1;
  uint64_t next_request_ = 1;
  uint64_t next_order_ = 1;
  int32_t num_living_ = 0;
  uint64_t trace_ = 0xcbf29ce484222325ULL;
  std::string failure_;
  Figures figures_;
};

}  // namespace sluice::scheduler
