#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "engine/output_event.h"
#include "engine/step_executor.h"
#include "observability/step_profiler.h"
#include "scheduler/scheduler.h"
#include "sluice/error.h"

namespace sluice::engine {

// What a step cost. Where steps overlap: of the step whose results came in.
struct StepTimes {
  int64_t num_tokens = 0;      // rows computed
  int64_t num_sequences = 0;   // that they belong to
  bool is_decode = false;      // every row is its sequence's last token
  base::Duration executor{0};  // spent in the executor: model and sampler, or waiting for them

  void add(const StepTimes& other) {
    is_decode = other.is_decode && (num_tokens == 0 || is_decode);
    num_tokens += other.num_tokens;
    num_sequences += other.num_sequences;
    executor += other.executor;
  }
};

// A line for the operator about something that went wrong: an error id, and what stays hidden from
// clients.
using Notice = std::function<void(const std::string&)>;

// One model's share of the engine: its scheduler, its executor, and the way from a schedule to a
// step and from a step's results to events.
//
// Where the executor can have two steps under way, the next step is scheduled and launched before
// the results of the one before come in: tokens that are being drawn are counted, and found on the
// device. A sequence that ends by what it has drawn has then a row too many in the next step, whose
// result is dropped. Tokens are the same either way.
//
// Threads: the engine's, but for gauges().
class Lane final {
 public:
  // Figures for server_info, written after every step.
  struct Gauges {
    std::atomic<int32_t> running{0};
    std::atomic<int32_t> waiting{0};
    std::atomic<int32_t> blocks_used{0};
    std::atomic<int32_t> blocks_total{0};
    std::atomic<int64_t> preemptions{0};  // since the start, as the next two
    std::atomic<int64_t> prefix_queries{0};
    std::atomic<int64_t> prefix_hits{0};
  };

  // `profiler`, if not null, must outlive this.
  Lane(std::unique_ptr<scheduler::Scheduler> scheduler, std::unique_ptr<StepExecutor> executor,
       Notice notice, observability::StepProfiler* profiler = nullptr);

  // Queues a request's completions; what cannot run ends at once.
  void add(std::vector<std::unique_ptr<sequence::Sequence>> completions);
  // Runs one step; the events wait in events(). num_tokens is 0 if no step's results came in: there
  // was nothing to run, or has_step_under_way().
  // `last_collected`: when the last step of any lane came in; kept by the caller for all of them.
  StepTimes step(base::TimePoint now, const base::Clock& clock, base::TimePoint& last_collected);
  // Ends everything with `error`.
  void end_all(const Error& error);

  // Prompt tokens of completions that have not run yet, those on their way to add() included: a
  // front end adds them before it hands a request over, the lane takes them off.
  std::atomic<int64_t>& queued_tokens() { return queued_tokens_; }

  // What is to be published; the caller empties it.
  std::vector<OutputEvent>& events() { return events_; }
  bool is_empty() const { return scheduler_->is_empty() && !has_step_under_way(); }
  bool has_step_under_way() const { return under_way_ != nullptr; }
  // Why no step can succeed any more: the device is lost, and everything has ended. Empty else.
  const std::string& lost() const { return lost_; }
  base::TimePoint next_timeout() const { return scheduler_->next_timeout(); }
  const Gauges& gauges() const { return gauges_; }

 private:
  // A step on its way.
  struct Flight {
    StepInput input;
    std::vector<std::vector<int32_t>> forbidden;  // of its rows, reused
    size_t num_forbidden = 0;
    std::vector<scheduler::ScheduledRows> rows;  // once it is under way
    StepTimes times;
    base::TimePoint launched;
  };

  const scheduler::StepSchedule& schedule_step();
  Result<void> launch(Flight& flight, const scheduler::StepSchedule& schedule,
                      const base::Clock& clock);
  void leave_under_way(Flight& flight, std::span<const scheduler::ScheduledRows> rows);
  bool try_step(const base::Clock& clock, base::TimePoint& last_collected, StepTimes& times);
  Result<std::span<sampling::RowResult>> collect(Flight& flight, const base::Clock& clock,
                                                 base::TimePoint& last_collected);
  void land(Flight& flight, const base::Clock& clock, base::TimePoint& last_collected);
  void build_input(Flight& flight, std::span<const scheduler::ScheduledRows> rows);
  void add_rows(Flight& flight, const scheduler::ScheduledRows& rows);
  void add_row_task(Flight& flight, const scheduler::ScheduledRows& rows, int32_t position);
  void fill_block_tables(StepInput& input, std::span<const scheduler::ScheduledRows> rows);
  void apply(std::span<const scheduler::ScheduledRows> rows,
             std::span<sampling::RowResult> results);
  void apply_draw(sequence::Sequence& sequence, sampling::RowResult& drawn);
  void run_one_by_one(Flight& flight, std::span<const scheduler::ScheduledRows> rows);
  void lose(const Error& error);
  void forget_row(const sequence::Sequence& sequence);
  void end_ended(std::span<const scheduler::EndedSequence> ended);
  void end(const sequence::Sequence& sequence, std::optional<Error> error, FinishReason reason);
  // Ends a sequence whose step failed, alone too.
  void end_failed(sequence::Sequence& sequence, const Error& error);
  // Ends a sequence by a fault of ours or of the model's, with an id that finds the notice again.
  void end_by_fault(sequence::Sequence& sequence, Error for_client,
                    const std::string& for_operator);
  void update_gauges();
  void learn_speed(const StepTimes& times, base::Duration duration);

  std::unique_ptr<scheduler::Scheduler> scheduler_;
  std::unique_ptr<StepExecutor> executor_;
  Notice notice_;
  observability::StepProfiler* profiler_;  // null: nothing is timed
  Flight flights_[2];
  size_t next_flight_ = 0;
  Flight* under_way_ = nullptr;  // launched and not collected, while no step is being made
  std::vector<OutputEvent> events_;
  std::string lost_;
  std::vector<sampling::RowResult> kept_results_;  // of a step that was run one by one
  base::TimePoint now_;
  base::Duration fastest_token_{0};  // of a step's time per row, lately; 0: not known
  std::atomic<int64_t> queued_tokens_{0};
  Gauges gauges_;
};

}  // namespace sluice::engine
