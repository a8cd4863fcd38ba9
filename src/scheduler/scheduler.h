#pragma once

#include <bitset>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "kv_cache/prefix_cache.h"
#include "scheduler/fair_order.h"
#include "scheduler/sequence_list.h"
#include "sequence/sequence.h"
#include "sluice/error.h"

namespace sluice::scheduler {

struct SchedulerOptions {
  int32_t num_blocks = 0;                // of the KV pool
  int32_t block_size = 16;               // tokens
  int32_t max_model_len = 0;             // tokens of a sequence, prompt and generated
  int32_t max_num_seqs = 64;             // running at once
  int32_t max_num_batched_tokens = 512;  // rows in one step, >= max_num_seqs
  int32_t max_chunk_tokens = 0;          // of one prompt in one step; 0: no limit of its own
  int32_t max_prompt_logit_rows = 64;    // rows in one step whose logits only prompt logprobs need
  int32_t max_waiting_seqs = 2048;
  int32_t watermark_blocks = -1;  // kept free at an admission for decodes; -1: 1 % of the pool
  bool keep_prefixes = false;     // keep full blocks that no sequence uses (prefix cache)
  uint64_t hash_seed = 0;         // see PrefixCacheOptions
  base::Duration stall_time = std::chrono::minutes(1);  // paused this long: ended
};

// One sequence's part in a step: tokens [first_position, first_position + num_tokens).
struct ScheduledRows {
  sequence::Sequence* sequence = nullptr;  // becomes null when the sequence is finished
  int32_t first_position = 0;
  int32_t num_tokens = 0;
  // Positions [first_logits, first_position + num_tokens) need logits: the prompt positions before
  // the last for prompt logprobs (logits of position p are about token p + 1), the last one to
  // draw a token. Equal to the end when none is needed.
  int32_t first_logits = 0;
  // A token is to be drawn from the logits of the last position.
  bool draws_token = false;

  int32_t end_position() const { return first_position + num_tokens; }
};

enum class EndCause : uint8_t {
  kTextStop,   // Signals: a stop string was found
  kCancelled,  // Signals: cancelled
  kDeadline,
  kNoFirstToken,  // first_token_by has passed, and its request has none
  kHopeless,      // waits, and its request cannot have its first token in time
  kTimeIsUp,      // last_token_by has passed
  kStalled,       // the reader took nothing for stall_time
};

struct EndedSequence {
  std::unique_ptr<sequence::Sequence> sequence;
  EndCause cause;
};

struct StepSchedule {
  std::vector<ScheduledRows> rows;   // earliest turn's decodes first, then prefills; may be empty
  int32_t num_tokens = 0;            // sum over rows
  int64_t num_started_tokens = 0;    // of prompts that run for the first time
  std::vector<EndedSequence> ended;  // their blocks are free; they die at the next schedule()
  int32_t num_preempted = 0;         // in this step
};

struct SchedulerCounts {
  int32_t running = 0;  // hold blocks
  int32_t waiting = 0;
  int32_t blocks_used = 0;
  int32_t blocks_total = 0;
  int64_t preemptions = 0;          // since the start, as the next two
  int64_t prefix_query_tokens = 0;  // of sequences that started (again)
  int64_t prefix_hit_tokens = 0;    // of them, not computed thanks to shared blocks
};

// Decides which sequences run in each step, and how many of their tokens.
//
// A step: schedule(), the model runs, commit(), then for each drawn token Sequence::append() and,
// if it ends the stream, finish(). Or, where the next step is scheduled while the model runs:
// commit() and Sequence::append_being_drawn() as soon as it runs; append() and finish() then come
// between the next schedule() and its commit(). The rules:
// 1. Before anything else, sequences that were cancelled, are past their deadline or stalled end.
// 2. Every running sequence that has all but its last token computed gets that one token (decode).
//    It may need a block; if there is none, blocks are freed by preemption: first paused sequences,
//    then the youngest running one, which may be itself. A preempted sequence loses its blocks, not
//    its tokens, and waits in its old place.
// 3. Running prefills go on, the oldest first, within what is left of the token budget.
// 4. Waiting sequences start, strictly the oldest first, when a place and the blocks for all
//    their known tokens are there (paused sequences make room). The first one that cannot start
//    ends the admission of this step: nobody overtakes it for being smaller.
// Older is who has the earlier turn (FairOrder): with one client that is the order of arrival, with
// several each has its share of the starts, and a client's own requests stay in order of arrival.
//
// A sequence whose reader is slow pauses: it is passed over, keeps its blocks as long as nobody
// needs them, and goes on when its reader has taken tokens. Completions of one request share their
// prompt's full blocks: a younger one waits while an older one that is not paused still computes
// them.
//
// Fairness: a sequence is overtaken by younger ones only while it is paused or waits for its
// sibling. No starvation: the oldest sequence that is not paused is never preempted for another and
// gets at least one row in every step, and any sequence that was accepted fits the pool alone.
//
// Time: O(running + waiting) with small constants; no heap allocation in steady state.
// Threads: engine thread only, but for the sequences' Signals.
class Scheduler final {
 public:
  // kInvalidArgument names the option that is out of range.
  static Result<std::unique_ptr<Scheduler>> create(const SchedulerOptions& options);
  ~Scheduler();

  // Queues the completions of one request, in order of index, all with the same prompt and limits.
  // Errors: kInvalidArgument if they can never fit (context length or pool), kResourceExhausted if
  // the queue is full; `completions` is untouched then, else emptied. Requires: not empty.
  Result<void> add(std::vector<std::unique_ptr<sequence::Sequence>>& completions);

  // The next step, valid until the next call. `rows` is empty if nothing can run now: then all
  // sequences that are left are paused, or there are none.
  // `fastest_token`: the least time that a token of a prompt takes, 0 if unknown. With it a waiting
  // sequence ends as kHopeless as soon as the prompt tokens up to its first token leave no hope
  // that it comes before first_token_by, last_token_by and deadline.
  const StepSchedule& schedule(base::TimePoint now, base::Duration fastest_token = {});

  // The tokens of the last schedule are in the cache, or will be before a later step looks there.
  // Once after each step that succeeded, before its append() and finish(). After a step that
  // failed: finish() those of its sequences whose tokens did not reach the cache, then commit() the
  // others.
  void commit();

  // The scheduled step has no memory and does not run: in place of commit(). True if smaller ones
  // can be tried: the next ones run at most half as many sequences (the youngest beyond them wait)
  // and, if it had prompts, half as many tokens. Every kStepsToGrow steps it is twice as many
  // again, up to what the options say.
  bool shrink();
  static constexpr int32_t kStepsToGrow = 64;
  static constexpr int32_t kFewestStepTokens = 32;

  // Ends a sequence that was added: frees its blocks and hands it back. Between schedule() and
  // commit() only a sequence whose tokens did not reach the cache or are for nobody any more, or
  // any that is not in the step. What the model still writes to its blocks is written before
  // whatever a later step writes there.
  std::unique_ptr<sequence::Sequence> finish(sequence::Sequence& sequence);

  // Ends everything: for a shutdown. Empties the scheduler.
  std::vector<std::unique_ptr<sequence::Sequence>> finish_all();

  bool is_empty() const;
  // The next moment at which schedule() could end a sequence by its deadline or stall although
  // nothing else happens; TimePoint::max() if none. An idle engine sleeps until then at most.
  base::TimePoint next_timeout() const;
  SchedulerCounts counts() const;
  const SchedulerOptions& options() const { return options_; }
  // Tokens that fit the pool.
  int64_t capacity_tokens() const;

 private:
  explicit Scheduler(const SchedulerOptions& options);

  // The rules 1 to 4, in this order.
  void end_and_pause(SequenceList& list, base::TimePoint now);
  void end_hopeless(base::Duration fastest_token);
  bool is_new_beginning(const sequence::Sequence& sequence);
  void preempt_surplus();
  void grow();
  void schedule_decodes();
  void schedule_prefills();
  void admit();

  bool try_start(sequence::Sequence& sequence);
  bool waits_for_sibling(const sequence::Sequence& sequence) const;
  // Adds the next chunk of a prefill; false if the step has no room for it.
  bool add_prefill_rows(sequence::Sequence& sequence);
  void add_rows(sequence::Sequence& sequence, int32_t num_tokens);
  // Frees blocks for others. The victim waits from the end of this step on.
  void preempt(sequence::Sequence& victim);
  sequence::Sequence* youngest_running(bool paused) const;
  void close(sequence::Sequence& sequence);

  SchedulerOptions options_;
  kv_cache::PrefixCache cache_;
  SequenceList running_;
  SequenceList waiting_;
  std::vector<std::unique_ptr<sequence::Sequence>> preempted_;  // in this step
  StepSchedule schedule_;
  FairOrder order_;
  base::TimePoint now_{};           // of this step
  int32_t num_paused_running_ = 0;  // this and the next two: of this step, counted anew
  int32_t max_step_tokens_;         // now, as the next one
  int32_t max_running_;
  int32_t num_steps_to_growth_ = 0;
  int32_t budget_tokens_ = 0;
  int32_t budget_logit_rows_ = 0;
  uint64_t next_order_ = 1;
  int64_t num_preemptions_ = 0;
  int64_t num_prefix_query_tokens_ = 0;
  int64_t num_prefix_hit_tokens_ = 0;
  static constexpr int kBeginningsShift = 52;
  std::bitset<1 << (64 - kBeginningsShift)> beginnings_;  // of prompts: scratch of end_hopeless()
};

}  // namespace sluice::scheduler
