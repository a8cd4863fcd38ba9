#include "engine/lane.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/random_id.h"

namespace sluice::engine {
namespace {

using scheduler::EndCause;
using scheduler::ScheduledRows;
using sequence::Sequence;

constexpr size_t kErrorIdDigits = 16;

SequenceState& state_of(const Sequence& sequence) {
  return static_cast<SequenceState&>(*sequence.attachment());
}

std::string seconds(base::Duration duration) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(duration).count()) + " s";
}

}  // namespace

Lane::Lane(std::unique_ptr<scheduler::Scheduler> scheduler, std::unique_ptr<StepExecutor> executor,
           Notice notice, observability::StepProfiler* profiler)
    : scheduler_(std::move(scheduler)),
      executor_(std::move(executor)),
      notice_(std::move(notice)),
      profiler_(profiler) {
  update_gauges();
}

void Lane::add(std::vector<std::unique_ptr<Sequence>> completions) {
  const auto added = scheduler_->add(completions);
  if (!added) {
    for (const auto& sequence : completions) end(*sequence, added.error(), FinishReason::kError);
  }
  update_gauges();
}

StepTimes Lane::step(base::TimePoint now, const base::Clock& clock,
                     base::TimePoint& last_collected) {
  now_ = now;
  StepTimes times;
  while (!try_step(clock, last_collected, times)) {
  }
  update_gauges();
  return times;
}

// False if there was no memory for the step, and there may be for a smaller one.
bool Lane::try_step(const base::Clock& clock, base::TimePoint& last_collected, StepTimes& times) {
  const scheduler::StepSchedule& schedule = schedule_step();
  Flight* const before = std::exchange(under_way_, nullptr);
  Flight& flight = flights_[next_flight_];
  const bool has_rows = !schedule.rows.empty();
  flight.times = {};
  Result<void> launched;
  if (has_rows) launched = launch(flight, schedule, clock);
  if (before != nullptr) {
    land(*before, clock, last_collected);
    times.add(before->times);
  }
  if (!has_rows || !lost_.empty()) return true;
  if (launched && executor_->max_under_way() > 1) {
    leave_under_way(flight, schedule.rows);
    times.executor += std::exchange(flight.times.executor, {});
    return true;
  }
  const auto results =
      launched ? collect(flight, clock, last_collected) : std::unexpected(launched.error());
  if (results) {
    const observability::ProfiledPart part(profiler_, "commit");
    scheduler_->commit();
    apply(schedule.rows, *results);
  } else if (results.error().code == ErrorCode::kUnavailable) {
    lose(results.error());
  } else {
    const std::string what = "a step of " + std::to_string(flight.times.num_tokens) +
                             " tokens of " + std::to_string(flight.times.num_sequences) +
                             " sequences failed";
    if (results.error().code == ErrorCode::kResourceExhausted && scheduler_->shrink()) {
      notice_(what + " and is made smaller: " + results.error().message);
      return false;
    }
    notice_(what + " and is run one by one: " + results.error().message);
    run_one_by_one(flight, schedule.rows);
  }
  times.add(flight.times);
  return true;
}

Result<void> Lane::launch(Flight& flight, const scheduler::StepSchedule& schedule,
                          const base::Clock& clock) {
  build_input(flight, schedule.rows);
  flight.times.num_tokens = schedule.num_tokens;
  flight.times.num_sequences = std::ssize(schedule.rows);
  flight.times.is_decode = std::ranges::all_of(
      schedule.rows, [](const auto& rows) { return rows.num_tokens == 1 && rows.draws_token; });
  flight.launched = clock.now();
  auto launched = executor_->launch(flight.input);
  flight.times.executor = clock.now() - flight.launched;
  return launched;
}

// The step counts as done, but for what it draws. Rows of sequences that have ended meanwhile are
// for nobody.
void Lane::leave_under_way(Flight& flight, std::span<const ScheduledRows> rows) {
  const observability::ProfiledPart part(profiler_, "commit");
  scheduler_->commit();
  flight.rows.assign(rows.begin(), rows.end());
  for (const ScheduledRows& part_of_step : rows) {
    if (part_of_step.sequence != nullptr && part_of_step.draws_token) {
      part_of_step.sequence->append_being_drawn();
    }
  }
  under_way_ = &flight;
  next_flight_ = 1 - next_flight_;
}

// Steps of all lanes come one after the other: this one took the time since the last of any.
Result<std::span<sampling::RowResult>> Lane::collect(Flight& flight, const base::Clock& clock,
                                                     base::TimePoint& last_collected) {
  const base::TimePoint start = clock.now();
  auto results = executor_->collect();
  now_ = clock.now();
  flight.times.executor += now_ - start;
  if (results) learn_speed(flight.times, now_ - std::max(flight.launched, last_collected));
  last_collected = now_;
  return results;
}

// What was left under way comes in.
void Lane::land(Flight& flight, const base::Clock& clock, base::TimePoint& last_collected) {
  const auto results = collect(flight, clock, last_collected);
  if (results) {
    const observability::ProfiledPart part(profiler_, "commit");
    return apply(flight.rows, *results);
  }
  if (results.error().code == ErrorCode::kUnavailable) return lose(results.error());
  // Its tokens count as being in the cache, where they may not be: nobody can go on.
  for (const ScheduledRows& rows : flight.rows) {
    if (rows.sequence != nullptr) end_failed(*rows.sequence, results.error());
  }
}

// The least time per row, from full steps: a row of a small one takes longer than one of a long
// prompt will. It goes up slowly, so that one lucky step does not count for ever.
void Lane::learn_speed(const StepTimes& times, base::Duration duration) {
  const base::Duration per_token = duration / times.num_tokens;
  const bool is_full = times.num_tokens * 2 >= scheduler_->options().max_num_batched_tokens;
  const bool is_known = fastest_token_.count() > 0;
  if (is_known)
    fastest_token_ += is_full ? fastest_token_ / 64 + base::Duration(1) : base::Duration(0);
  if (is_full && !is_known) fastest_token_ = per_token;
  if (is_known) fastest_token_ = std::min(fastest_token_, per_token);
}

const scheduler::StepSchedule& Lane::schedule_step() {
  const observability::ProfiledPart part(profiler_, "schedule");
  const scheduler::StepSchedule& schedule = scheduler_->schedule(now_, fastest_token_);
  queued_tokens_.fetch_sub(schedule.num_started_tokens, std::memory_order_relaxed);
  end_ended(schedule.ended);
  return schedule;
}

void Lane::build_input(Flight& flight, std::span<const ScheduledRows> rows) {
  const observability::ProfiledPart part(profiler_, "plan");
  flight.input.clear();
  flight.num_forbidden = 0;
  for (const ScheduledRows& one : rows) add_rows(flight, one);
  fill_block_tables(flight.input, rows);
}

void Lane::add_rows(Flight& flight, const ScheduledRows& rows) {
  model::StepBatch& batch = flight.input.batch;
  const auto first = static_cast<size_t>(rows.first_position);
  const auto tokens = rows.sequence->tokens().subspan(first, static_cast<size_t>(rows.num_tokens));
  const auto first_row = static_cast<int32_t>(batch.tokens.size());
  batch.tokens.insert(batch.tokens.end(), tokens.begin(), tokens.end());
  if (batch.tokens.back() == Sequence::kBeingDrawn) {
    batch.tokens.back() = -1 - state_of(*rows.sequence).drawn_row;
  }
  for (int32_t p = rows.first_position; p < rows.end_position(); ++p) batch.positions.push_back(p);
  batch.sequence_starts.push_back(static_cast<int32_t>(batch.tokens.size()));
  batch.context_lengths.push_back(rows.end_position());
  for (int32_t p = rows.first_logits; p < rows.end_position(); ++p) {
    batch.logit_rows.push_back(first_row + p - rows.first_position);
    add_row_task(flight, rows, p);
  }
  state_of(*rows.sequence).drawn_row = static_cast<int32_t>(flight.input.rows.size()) - 1;
}

void Lane::add_row_task(Flight& flight, const ScheduledRows& rows, int32_t position) {
  const Sequence& sequence = *rows.sequence;
  const sampling::SamplingParams& params = sequence.spec().sampling;
  sampling::RowTask task;
  task.params = &params;
  if (!rows.draws_token || position + 1 < rows.end_position()) {
    task.scored_token = sequence.tokens()[static_cast<size_t>(position) + 1];
    task.num_logprobs = params.num_prompt_logprobs;
    flight.input.rows.push_back(task);
    return;
  }
  task.counts = &state_of(sequence).counts;
  task.completion_index = static_cast<uint32_t>(sequence.spec().index);
  task.position = static_cast<uint32_t>(position) + 1;
  task.num_logprobs = params.num_logprobs;
  const sequence::StopCriteria& stop = sequence.spec().stop;
  if (stop.forbids_stop(sequence.num_generated())) {
    if (flight.num_forbidden == flight.forbidden.size()) flight.forbidden.emplace_back();
    std::vector<int32_t>& ids = flight.forbidden[flight.num_forbidden++];
    ids = stop.stop_token_ids;
    if (!stop.ignore_eos) {
      ids.insert(ids.end(), stop.end_token_ids.begin(), stop.end_token_ids.end());
    }
    task.forbidden = ids;
  }
  flight.input.rows.push_back(task);
}

void Lane::fill_block_tables(StepInput& input, std::span<const ScheduledRows> rows) {
  model::StepBatch& batch = input.batch;
  size_t widest = 0;
  size_t will_be_widest = 0;  // the scheduler has made room for all that a sequence will need
  for (const ScheduledRows& part : rows) {
    const auto& table = part.sequence->progress().block_table;
    widest = std::max(widest, table.size());
    will_be_widest = std::max(will_be_widest, table.capacity());
  }
  batch.max_blocks = static_cast<int32_t>(widest);
  batch.block_tables.reserve(rows.size() * will_be_widest);
  for (const ScheduledRows& part : rows) {
    const auto& table = part.sequence->progress().block_table;
    batch.block_tables.insert(batch.block_tables.end(), table.begin(), table.end());
    batch.block_tables.insert(batch.block_tables.end(), widest - table.size(), -1);
  }
}

void Lane::apply(std::span<const ScheduledRows> rows, std::span<sampling::RowResult> results) {
  size_t next = 0;
  for (const ScheduledRows& part : rows) {
    const auto num_logits = static_cast<size_t>(part.end_position() - part.first_logits);
    Sequence* const sequence = part.sequence;
    if (sequence == nullptr) {  // ended by the step's failure
      next += num_logits;
      continue;
    }
    const auto own = results.subspan(next, num_logits);
    next += num_logits;
    const auto faulty = std::ranges::find_if(
        own, [](const auto& result) { return result.fault != sampling::RowFault::kNone; });
    if (faulty != own.end()) {
      if (faulty->fault == sampling::RowFault::kNothingLeft) {
        end(*sequence,
            Error{ErrorCode::kInvalidArgument,
                  "logit_bias, min_tokens and stop_token_ids leave no token to draw"},
            FinishReason::kError);
        scheduler_->finish(*sequence);
      } else {
        end_by_fault(*sequence,
                     Error{ErrorCode::kInternal, "the model gave a logit that is not finite"},
                     "a logit is not finite");
      }
      continue;
    }
    const bool draws = part.draws_token;
    for (sampling::RowResult& score : own.first(num_logits - (draws ? 1 : 0))) {
      events_.push_back({state_of(*sequence).request.get(), sequence->spec().index, now_,
                         PromptScoreOutput{std::move(score)}});
    }
    if (draws) apply_draw(*sequence, own.back());
  }
}

void Lane::apply_draw(Sequence& sequence, sampling::RowResult& drawn) {
  SequenceState& state = state_of(sequence);
  if (sampling::uses_counts(sequence.spec().sampling)) state.counts.add_generated(drawn.token_id);
  const auto reason = sequence.append(drawn.token_id);
  sequence.signals().undelivered_tokens.fetch_add(1, std::memory_order_acq_rel);
  events_.push_back(
      {state.request.get(), sequence.spec().index, now_, TokenOutput{std::move(drawn), reason}});
  if (reason) {
    end(sequence, std::nullopt, *reason);
    scheduler_->finish(sequence);
  }
}

// A failed step names nobody. Each of its sequences runs once more alone: whoever fails again is to
// blame and ends; the others go on with the same bits as if the step had succeeded (row law).
void Lane::run_one_by_one(Flight& flight, std::span<const ScheduledRows> rows) {
  kept_results_.clear();
  for (const ScheduledRows& part : rows) {
    if (part.sequence == nullptr) {  // ended by the step before
      const auto num_logits = static_cast<size_t>(part.end_position() - part.first_logits);
      kept_results_.resize(kept_results_.size() + num_logits);
      continue;
    }
    Sequence& sequence = *part.sequence;
    build_input(flight, {&part, 1});
    const auto launched = executor_->launch(flight.input);
    auto results = launched ? executor_->collect() : std::unexpected(launched.error());
    if (results) {
      for (auto& result : *results) kept_results_.push_back(std::move(result));
    } else if (results.error().code == ErrorCode::kUnavailable) {
      return lose(results.error());
    } else {
      kept_results_.resize(kept_results_.size() + flight.input.rows.size());
      end_failed(sequence, results.error());
    }
  }
  scheduler_->commit();
  apply(rows, kept_results_);
}

void Lane::lose(const Error& error) {
  lost_ = error.message;
  end_all({ErrorCode::kUnavailable, "the server has lost the device that it computes on"});
}

// Its row under way is for nobody.
void Lane::forget_row(const Sequence& sequence) {
  if (under_way_ == nullptr) return;
  const size_t row = sequence.progress().row_in_step;
  if (row < under_way_->rows.size() && under_way_->rows[row].sequence == &sequence) {
    under_way_->rows[row].sequence = nullptr;
  }
}

void Lane::end_ended(std::span<const scheduler::EndedSequence> ended) {
  for (const scheduler::EndedSequence& one : ended) {
    const Sequence& sequence = *one.sequence;
    forget_row(sequence);
    switch (one.cause) {
      case EndCause::kTextStop:
        end(sequence, std::nullopt, FinishReason::kStop);
        break;
      case EndCause::kCancelled:
        end(sequence, Error{ErrorCode::kCancelled, "the request was cancelled"},
            FinishReason::kCancelled);
        break;
      case EndCause::kDeadline:
        end(sequence, Error{ErrorCode::kDeadlineExceeded, "the request's deadline has passed"},
            FinishReason::kDeadline);
        break;
      case EndCause::kNoFirstToken:
        end(sequence, Error{ErrorCode::kDeadlineExceeded, "no token came within ttft_ms"},
            FinishReason::kDeadline);
        break;
      case EndCause::kHopeless:
        end(sequence,
            Error{
                ErrorCode::kDeadlineExceeded,
                "not started: the prompts up to its first token take longer than ttft_ms, total_ms "
                "or the call's deadline leaves"},
            FinishReason::kDeadline);
        break;
      case EndCause::kTimeIsUp:
        end(sequence, std::nullopt, FinishReason::kDeadline);
        break;
      case EndCause::kStalled:
        end(sequence,
            Error{ErrorCode::kResourceExhausted,
                  "the reader took nothing for " + seconds(scheduler_->options().stall_time) +
                      " with " + std::to_string(sequence.spec().max_undelivered) +
                      " tokens waiting for it"},
            FinishReason::kCancelled);
        break;
    }
  }
}

void Lane::end(const Sequence& sequence, std::optional<Error> error, FinishReason reason) {
  const sequence::Progress& progress = sequence.progress();
  if (!progress.first_scheduled) {
    queued_tokens_.fetch_sub(sequence.num_prompt_tokens(), std::memory_order_relaxed);
  }
  StreamEnd stream_end{std::move(error), reason, progress.first_scheduled, progress.num_cached};
  events_.push_back(
      {state_of(sequence).request.get(), sequence.spec().index, now_, std::move(stream_end)});
}

void Lane::end_failed(Sequence& sequence, const Error& error) {
  const bool lacks_memory = error.code == ErrorCode::kResourceExhausted;
  end_by_fault(sequence,
               lacks_memory ? Error{error.code, "the server has no memory for this request now"}
                            : Error{ErrorCode::kInternal, "the model failed"},
               error.message);
}

void Lane::end_by_fault(Sequence& sequence, Error for_client, const std::string& for_operator) {
  const std::string id = random_id(kErrorIdDigits);
  notice_("error " + id + " of request " + state_of(sequence).request->checked.id + ": " +
          for_operator);
  for_client.message += " (error " + id + ")";
  end(sequence, std::move(for_client), FinishReason::kError);
  scheduler_->finish(sequence);
}

void Lane::end_all(const Error& error) {
  if (std::exchange(under_way_, nullptr) != nullptr) {
    const auto results = executor_->collect();  // for nobody
    if (!results) notice_("the last step failed: " + results.error().message);
  }
  for (const auto& sequence : scheduler_->finish_all()) {
    end(*sequence, error, FinishReason::kError);
  }
  update_gauges();
}

void Lane::update_gauges() {
  const scheduler::SchedulerCounts counts = scheduler_->counts();
  gauges_.running.store(counts.running, std::memory_order_relaxed);
  gauges_.waiting.store(counts.waiting, std::memory_order_relaxed);
  gauges_.blocks_used.store(counts.blocks_used, std::memory_order_relaxed);
  gauges_.blocks_total.store(counts.blocks_total, std::memory_order_relaxed);
  gauges_.preemptions.store(counts.preemptions, std::memory_order_relaxed);
  gauges_.prefix_queries.store(counts.prefix_query_tokens, std::memory_order_relaxed);
  gauges_.prefix_hits.store(counts.prefix_hit_tokens, std::memory_order_relaxed);
}

}  // namespace sluice::engine
