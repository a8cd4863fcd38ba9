#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "kv_cache/block_allocator.h"
#include "sampling/params.h"
#include "sequence/stop_criteria.h"
#include "sluice/generation.h"

namespace sluice::sequence {

// Why the front end wants a stream to end.
enum class StopSignal : uint8_t {
  kNone,
  kTextStop,   // the delivery thread found a stop string
  kCancelled,  // the client went away or asked for it
};

// What the front end tells the engine about one sequence, without a lock.
//
// Shared by both sides; the only part of a sequence that another thread may touch.
struct Signals {
  // Seen before the next step. The first signal counts: use request_stop().
  std::atomic<StopSignal> stop{StopSignal::kNone};
  // Generated tokens published and not yet taken by the reader. The engine adds what it publishes,
  // the front end subtracts what was taken. At SequenceSpec::max_undelivered the sequence pauses.
  std::atomic<int32_t> undelivered_tokens{0};

  void request_stop(StopSignal signal) {
    StopSignal none = StopSignal::kNone;
    stop.compare_exchange_strong(none, signal, std::memory_order_acq_rel);
  }
};

// What is fixed when a sequence is made.
struct SequenceSpec {
  uint64_t request = 0;         // one number for all completions of a request, never used again
  int32_t index = 0;            // completion, 0 .. n-1
  std::vector<int32_t> prompt;  // >= 1 token
  sampling::SamplingParams sampling;  // only completion 0 may ask for prompt logprobs: the engine
                                      // copies them for the others
  StopCriteria stop;
  std::string client;  // whose turn it takes among those who wait; "": of nobody in particular
  base::TimePoint arrival;
  base::TimePoint deadline = base::TimePoint::max();        // ends with an error
  base::TimePoint first_token_by = base::TimePoint::max();  // without one until then: an error
  base::TimePoint last_token_by = base::TimePoint::max();   // ends with what there is
  int32_t max_undelivered = 256;                            // tokens, >= 1
};

enum class SequenceState : uint8_t {
  kWaiting,   // in the queue, holds no blocks
  kRunning,   // holds blocks; is scheduled unless its reader is slow
  kFinished,  // holds no blocks; the scheduler knows it no more
};

class Sequence;

// What the scheduler keeps about a sequence. Written by the scheduler only.
struct Progress {
  SequenceState state = SequenceState::kWaiting;
  uint64_t order = 0;        // place in the order of arrival, unique
  uint64_t turn = 0;         // see FairOrder; the smaller goes first, of equal ones the older
  int32_t num_computed = 0;  // tokens whose keys and values are in the cache
  int32_t num_cached = 0;    // of them prompt tokens taken from shared blocks at the first start
  int32_t num_preemptions = 0;
  int32_t num_prompt_logits = 0;  // prompt positions whose logits were asked for and computed
  std::vector<kv_cache::BlockId> block_table;   // may change between steps; empty while waiting
  std::optional<base::TimePoint> paused_since;  // set while the reader is slow
  std::optional<base::TimePoint> first_scheduled;
  size_t row_in_step = 0;             // in StepSchedule::rows, of the last step it was in
  Sequence* older_sibling = nullptr;  // neighbours among the living completions of the request
  Sequence* younger_sibling = nullptr;
  bool lost_sibling_had_token = false;  // of the completions that have ended
};

// State that the engine hangs on a sequence (its request, penalty counts).
class Attachment {
 public:
  virtual ~Attachment() = default;
};

// One token stream: a prompt and what was generated after it.
//
// Life: made by the engine from a checked request, owned by the scheduler from add() on (waiting,
// running, perhaps preempted and waiting again), handed back when it ends (finish() or
// StepSchedule::ended). Tokens survive a preemption; only their keys and values are recomputed.
// Threads: engine thread only, but for Signals.
class Sequence final {
 public:
  // Requires: prompt not empty, signals not null.
  Sequence(SequenceSpec spec, std::shared_ptr<Signals> signals);
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  const SequenceSpec& spec() const { return spec_; }
  Signals& signals() const { return *signals_; }

  // Prompt, then generated; the last one may be being drawn. Reserved once: appending does not move
  // it often.
  std::span<const int32_t> tokens() const { return tokens_; }
  std::span<const int32_t> generated() const {
    return tokens().subspan(static_cast<size_t>(num_prompt_tokens_));
  }
  int32_t num_tokens() const { return static_cast<int32_t>(tokens_.size()); }
  int32_t num_prompt_tokens() const { return num_prompt_tokens_; }
  int32_t num_generated() const { return num_tokens() - num_prompt_tokens_; }
  // Whether any has come; one that is being drawn has not.
  bool has_generated() const { return num_generated() > (is_being_drawn() ? 1 : 0); }
  bool wants_prompt_logprobs() const { return spec_.sampling.num_prompt_logprobs >= 0; }

  // Appends the drawn token, or puts it in the place of the one that is being drawn. Returns why
  // the stream ends with it, if it does: the caller then calls Scheduler::finish().
  std::optional<FinishReason> append(int32_t token_id);

  // Counts a token that is being drawn: its place in tokens() holds kBeingDrawn until append().
  // Requires: is_being_drawn() is false.
  void append_being_drawn();
  bool is_being_drawn() const { return tokens_.back() == kBeingDrawn; }
  // Whether what is being drawn is the last token for certain.
  bool awaits_its_end() const {
    return is_being_drawn() && spec_.stop.ends_by_length(num_generated(), num_tokens());
  }
  static constexpr int32_t kBeingDrawn = -1;

  const Progress& progress() const { return progress_; }
  Progress& mutable_progress() { return progress_; }  // for the scheduler

  void attach(std::unique_ptr<Attachment> attachment) { attachment_ = std::move(attachment); }
  Attachment* attachment() const { return attachment_.get(); }

  // Whether the reader has left too many tokens untaken, what is being drawn among them.
  bool reader_is_slow() const {
    const int32_t undelivered = signals_->undelivered_tokens.load(std::memory_order_acquire);
    return undelivered + (is_being_drawn() ? 1 : 0) >= spec_.max_undelivered;
  }

 private:
  SequenceSpec spec_;  // its prompt was moved to tokens_
  std::shared_ptr<Signals> signals_;
  std::vector<int32_t> tokens_;
  int32_t num_prompt_tokens_;
  Progress progress_;
  std::unique_ptr<Attachment> attachment_;
};

}  // namespace sluice::sequence
