#include "scheduler/scheduler.h"

#include <algorithm>
#include <cassert>
#include <string>
#include <utility>

#include "scheduler/time_limits.h"

namespace sluice::scheduler {
namespace {

using sequence::Progress;
using sequence::Sequence;
using sequence::SequenceState;

bool is_paused(const Sequence& sequence) {
  return sequence.progress().paused_since.has_value();
}

bool is_decode(const Sequence& sequence) {
  return sequence.progress().num_computed == sequence.num_tokens() - 1;
}

// Prompt positions whose logits prompt logprobs need: all but the last, whose logits are about the
// first generated token.
int32_t num_wanted_prompt_logits(const Sequence& sequence) {
  return sequence.wants_prompt_logprobs() ? sequence.num_prompt_tokens() - 1 : 0;
}

// Tokens of a sequence whose keys and values may come to be cached: the last one is drawn and never
// computed.
int64_t most_computed(const Sequence& sequence) {
  const auto& stop = sequence.spec().stop;
  const int64_t most = int64_t{sequence.num_prompt_tokens()} + stop.max_tokens;
  return std::min<int64_t>(most, stop.max_length) - 1;
}

// Tokens that a sequence is charged for in the order of turns.
int64_t charge_of(const Sequence& sequence) {
  return FairOrder::charge(sequence.num_prompt_tokens(), sequence.spec().stop.max_tokens);
}

std::unexpected<Error> out_of_range(const char* option, int64_t value, const std::string& range) {
  return invalid_argument(std::string(option) + " is " + std::to_string(value) + ", must be " +
                          range);
}

}  // namespace

Result<std::unique_ptr<Scheduler>> Scheduler::create(const SchedulerOptions& options) {
  const auto& o = options;
  if (o.num_blocks < 1) return out_of_range("num_blocks", o.num_blocks, ">= 1");
  if (o.block_size < 1) return out_of_range("block_size", o.block_size, ">= 1");
  if (o.max_model_len < 2) return out_of_range("max_model_len", o.max_model_len, ">= 2");
  if (o.max_num_seqs < 1) return out_of_range("max_num_seqs", o.max_num_seqs, ">= 1");
  if (o.max_num_batched_tokens < o.max_num_seqs) {
    return out_of_range("max_num_batched_tokens", o.max_num_batched_tokens,
                        ">= max_num_seqs (" + std::to_string(o.max_num_seqs) + ")");
  }
  if (o.max_chunk_tokens < 0) return out_of_range("max_chunk_tokens", o.max_chunk_tokens, ">= 0");
  if (o.max_prompt_logit_rows < 1) {
    return out_of_range("max_prompt_logit_rows", o.max_prompt_logit_rows, ">= 1");
  }
  if (o.max_waiting_seqs < 1) return out_of_range("max_waiting_seqs", o.max_waiting_seqs, ">= 1");
  SchedulerOptions checked = options;
  if (o.watermark_blocks < 0) checked.watermark_blocks = std::max(1, o.num_blocks / 100);
  return std::unique_ptr<Scheduler>(new Scheduler(checked));
}

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options),
      cache_({options.num_blocks, options.block_size, options.keep_prefixes, options.hash_seed}),
      max_step_tokens_(options.max_num_batched_tokens),
      max_running_(options.max_num_seqs) {}

Scheduler::~Scheduler() = default;

Result<void> Scheduler::add(std::vector<std::unique_ptr<Sequence>>& completions) {
  assert(!completions.empty());
  const Sequence& first = *completions.front();
  const int32_t prompt = first.num_prompt_tokens();
  const auto& stop = first.spec().stop;
  if (stop.max_length > options_.max_model_len) {
    return out_of_range("max_length", stop.max_length,
                        "<= " + std::to_string(options_.max_model_len) + " (--max-model-len)");
  }
  if (prompt >= stop.max_length) {
    return invalid_argument("prompt has " + std::to_string(prompt) + " tokens, limit is " +
                            std::to_string(stop.max_length - 1) +
                            " (--max-model-len, less one to generate)");
  }
  const int64_t most = most_computed(first);
  if (cache_.blocks_for(most) > cache_.num_blocks()) {
    return invalid_argument("request needs a KV cache of " + std::to_string(most) +
                            " tokens, there is room for " + std::to_string(capacity_tokens()) +
                            ": lower max_tokens or raise the KV cache size");
  }
  if (waiting_.size() + static_cast<int64_t>(completions.size()) > options_.max_waiting_seqs) {
    return fail(ErrorCode::kResourceExhausted, "queue is full: limit is " +
                                                   std::to_string(options_.max_waiting_seqs) +
                                                   " waiting sequences, try again later");
  }
  if (is_empty()) order_.clear();
  const auto num_completions = static_cast<int32_t>(completions.size());
  const uint64_t turn =
      order_.next_turn(first.spec().client, num_completions, charge_of(first) * num_completions);
  Sequence* older = nullptr;
  for (auto& sequence : completions) {
    Progress& progress = sequence->mutable_progress();
    progress.order = next_order_++;
    progress.turn = turn;
    progress.older_sibling = older;
    if (older != nullptr) older->mutable_progress().younger_sibling = sequence.get();
    older = sequence.get();
    waiting_.insert(std::move(sequence));
  }
  completions.clear();
  return {};
}

const StepSchedule& Scheduler::schedule(base::TimePoint now, base::Duration fastest_token) {
  schedule_.rows.clear();
  schedule_.ended.clear();
  schedule_.num_tokens = 0;
  schedule_.num_preempted = 0;
  schedule_.num_started_tokens = 0;
  now_ = now;
  budget_tokens_ = max_step_tokens_;
  budget_logit_rows_ = options_.max_prompt_logit_rows;
  num_paused_running_ = 0;
  end_and_pause(running_, now);
  end_and_pause(waiting_, now);
  if (fastest_token.count() > 0) end_hopeless(fastest_token);
  running_.compact();
  waiting_.compact();

  preempt_surplus();
  schedule_decodes();
  schedule_prefills();
  // A sequence that just lost its blocks for an older one would be the first to start again.
  if (preempted_.empty()) admit();

  running_.compact();
  waiting_.compact();
  for (auto& sequence : preempted_) waiting_.insert(std::move(sequence));
  preempted_.clear();
  return schedule_;
}

void Scheduler::end_and_pause(SequenceList& list, base::TimePoint now) {
  for (size_t i = 0; i < list.num_positions(); ++i) {
    Sequence* sequence = list.at(i);
    if (sequence == nullptr) continue;
    Progress& progress = sequence->mutable_progress();
    if (!sequence->reader_is_slow()) {
      progress.paused_since.reset();
    } else if (!progress.paused_since) {
      progress.paused_since = now;
    }
    if (const auto cause = end_cause(*sequence, now, options_.stall_time)) {
      close(*sequence);
      schedule_.ended.push_back({list.take(*sequence), *cause});
    } else if (progress.paused_since && progress.state == SequenceState::kRunning) {
      ++num_paused_running_;
    }
  }
}

// Counts only tokens that are certain to be computed before a sequence's first one comes: what is
// left of running prefills, the prompts that wait before it, and its own. A prompt that begins like
// one that is cached, runs or waits before it may find most of itself in the cache, and counts as
// nothing. Decodes, places and blocks that are missing would only make it later.
void Scheduler::end_hopeless(base::Duration fastest_token) {
  beginnings_.reset();
  double ahead = 0;  // tokens
  for (size_t i = 0; i < running_.num_positions(); ++i) {
    const Sequence* sequence = running_.at(i);
    if (sequence == nullptr || is_paused(*sequence) || is_decode(*sequence)) continue;
    ahead += sequence->num_tokens() - sequence->progress().num_computed;
    is_new_beginning(*sequence);
  }
  const auto token_ns = static_cast<double>(fastest_token.count());
  for (size_t i = 0; i < waiting_.num_positions(); ++i) {
    Sequence* sequence = waiting_.at(i);
    if (sequence == nullptr || is_paused(*sequence)) continue;
    const double own = is_new_beginning(*sequence) ? sequence->num_tokens() : 0;
    const base::TimePoint limit = first_token_limit(*sequence);
    const bool is_hopeless = limit != base::TimePoint::max() &&
                             (ahead + own) * token_ns > static_cast<double>((limit - now_).count());
    if (!is_hopeless) {
      ahead += own;
      continue;
    }
    close(*sequence);
    schedule_.ended.push_back({waiting_.take(*sequence), EndCause::kHopeless});
  }
}

// Whether nothing of it can be shared with what is cached or was asked for before. May say no for
// one that is new; never yes for one that is not.
bool Scheduler::is_new_beginning(const Sequence& sequence) {
  const std::optional<uint64_t> hash = cache_.beginning(sequence.tokens());
  if (!hash) return true;
  // Fibonacci hashing: the product's highest bits depend on all of the hash.
  const auto bit = static_cast<size_t>((*hash * 0x9e3779b97f4a7c15ULL) >> kBeginningsShift);
  if (beginnings_.test(bit)) return false;
  beginnings_.set(bit);
  return !cache_.has_beginning(sequence.tokens());
}

// More than run at once since shrink().
void Scheduler::preempt_surplus() {
  while (running_.size() > max_running_) {
    Sequence* victim = youngest_running(/*paused=*/true);
    if (victim == nullptr) victim = youngest_running(/*paused=*/false);
    preempt(*victim);
  }
}

void Scheduler::schedule_decodes() {
  for (size_t i = 0; i < running_.num_positions(); ++i) {
    Sequence* sequence = running_.at(i);
    if (sequence == nullptr || is_paused(*sequence) || !is_decode(*sequence)) continue;
    if (sequence->awaits_its_end()) continue;
    std::vector<kv_cache::BlockId>& table = sequence->mutable_progress().block_table;
    while (sequence != nullptr && !cache_.grow(sequence->num_tokens(), table)) {
      Sequence* victim = youngest_running(/*paused=*/true);
      if (victim == nullptr) victim = youngest_running(/*paused=*/false);
      preempt(*victim);
      if (victim == sequence) sequence = nullptr;
    }
    if (sequence != nullptr) add_rows(*sequence, 1);
  }
}

void Scheduler::schedule_prefills() {
  for (size_t i = 0; i < running_.num_positions() && budget_tokens_ > 0; ++i) {
    Sequence* sequence = running_.at(i);
    if (sequence == nullptr || is_paused(*sequence) || is_decode(*sequence)) continue;
    add_prefill_rows(*sequence);
  }
}

void Scheduler::admit() {
  for (size_t i = 0; i < waiting_.num_positions() && budget_tokens_ > 0; ++i) {
    Sequence* sequence = waiting_.at(i);
    if (is_paused(*sequence) || waits_for_sibling(*sequence)) continue;
    if (!try_start(*sequence)) return;
    running_.insert(waiting_.take(*sequence));
    if (is_decode(*sequence)) {
      add_rows(*sequence, 1);
    } else if (!add_prefill_rows(*sequence)) {
      return;  // it has its blocks and goes on in the next step
    }
  }
}

bool Scheduler::try_start(Sequence& sequence) {
  while (running_.size() >= max_running_) {
    Sequence* victim = youngest_running(/*paused=*/true);
    if (victim == nullptr) return false;
    preempt(*victim);
  }
  const int32_t reserve = running_.size() > num_paused_running_ ? options_.watermark_blocks : 0;
  Progress& progress = sequence.mutable_progress();
  // The last token is always computed: the next one is drawn from its logits. So are prompt
  // positions whose logits are still missing.
  int32_t max_shared = sequence.num_tokens() - 1;
  if (progress.num_prompt_logits < num_wanted_prompt_logits(sequence)) {
    max_shared = std::min(max_shared, progress.num_prompt_logits);
  }
  std::optional<int32_t> num_shared;
  while (
      !(num_shared = cache_.start(sequence.tokens(), max_shared, reserve, progress.block_table))) {
    Sequence* victim = youngest_running(/*paused=*/true);
    if (victim == nullptr) return false;
    preempt(*victim);
  }
  progress.block_table.reserve(static_cast<size_t>(cache_.blocks_for(most_computed(sequence))));
  progress.state = SequenceState::kRunning;
  progress.num_computed = *num_shared;
  num_prefix_query_tokens_ += sequence.num_tokens();
  num_prefix_hit_tokens_ += *num_shared;
  order_.started(progress.turn);
  if (!progress.first_scheduled) {
    schedule_.num_started_tokens += sequence.num_prompt_tokens();
    progress.first_scheduled = now_;
    progress.num_cached = *num_shared;
  }
  return true;
}

bool Scheduler::waits_for_sibling(const Sequence& sequence) const {
  const int32_t size = options_.block_size;
  const int32_t border = (sequence.num_prompt_tokens() - 1) / size * size;
  const Sequence* older = sequence.progress().older_sibling;
  for (; older != nullptr; older = older->progress().older_sibling) {
    if (!is_paused(*older) && older->progress().num_computed < border) return true;
  }
  return false;
}

bool Scheduler::add_prefill_rows(Sequence& sequence) {
  const Progress& progress = sequence.progress();
  int32_t count = std::min(sequence.num_tokens() - progress.num_computed, budget_tokens_);
  if (options_.max_chunk_tokens > 0) count = std::min(count, options_.max_chunk_tokens);
  const int32_t num_wanted = num_wanted_prompt_logits(sequence);
  const int32_t first_wanted = std::max(progress.num_computed, progress.num_prompt_logits);
  if (num_wanted > first_wanted) {
    // Rows before first_wanted need no logits (computed again after a preemption).
    const int32_t free_rows = first_wanted - progress.num_computed;
    if (num_wanted - first_wanted > budget_logit_rows_) {
      count = std::min(count, free_rows + budget_logit_rows_);
    }
  }
  if (count == 0) return false;
  add_rows(sequence, count);
  return true;
}

void Scheduler::add_rows(Sequence& sequence, int32_t num_tokens) {
  Progress& progress = sequence.mutable_progress();
  progress.row_in_step = schedule_.rows.size();
  ScheduledRows rows;
  rows.sequence = &sequence;
  rows.first_position = progress.num_computed;
  rows.num_tokens = num_tokens;
  const int32_t end = rows.end_position();
  rows.draws_token = end == sequence.num_tokens();
  const int32_t last = rows.draws_token ? end - 1 : end;  // [last, end) draws
  const int32_t first_wanted = std::max(rows.first_position, progress.num_prompt_logits);
  const int32_t end_wanted = std::min(end, num_wanted_prompt_logits(sequence));
  if (first_wanted < end_wanted) {
    rows.first_logits = first_wanted;
    budget_logit_rows_ -= end_wanted - first_wanted;
  } else {
    rows.first_logits = last;
  }
  budget_tokens_ -= num_tokens;
  schedule_.num_tokens += num_tokens;
  schedule_.rows.push_back(rows);
}

void Scheduler::preempt(Sequence& victim) {
  Progress& progress = victim.mutable_progress();
  cache_.release(progress.block_table);
  progress.state = SequenceState::kWaiting;
  progress.num_computed = 0;
  ++progress.num_preemptions;
  ++num_preemptions_;
  ++schedule_.num_preempted;
  if (is_paused(victim)) --num_paused_running_;
  preempted_.push_back(running_.take(victim));
}

Sequence* Scheduler::youngest_running(bool paused) const {
  if (paused && num_paused_running_ == 0) return nullptr;
  for (size_t i = running_.num_positions(); i > 0; --i) {
    Sequence* sequence = running_.at(i - 1);
    if (sequence != nullptr && is_paused(*sequence) == paused) return sequence;
  }
  return nullptr;
}

bool Scheduler::shrink() {
  const auto num_sequences = static_cast<int32_t>(schedule_.rows.size());
  const bool has_prompts = schedule_.num_tokens > num_sequences;
  const int32_t fewer_tokens = std::max(schedule_.num_tokens / 2, kFewestStepTokens);
  const bool can_shrink = num_sequences > 1 || (has_prompts && fewer_tokens < schedule_.num_tokens);
  if (!can_shrink) return false;
  max_running_ = std::clamp(num_sequences / 2, 1, max_running_);
  if (has_prompts) {
    max_step_tokens_ = std::clamp(fewer_tokens, max_running_, max_step_tokens_);
  }
  num_steps_to_growth_ = kStepsToGrow;
  return true;
}

void Scheduler::grow() {
  max_step_tokens_ = std::min(options_.max_num_batched_tokens, max_step_tokens_ * 2);
  max_running_ = std::min({options_.max_num_seqs, max_running_ * 2, max_step_tokens_});
  const bool is_whole =
      max_step_tokens_ == options_.max_num_batched_tokens && max_running_ == options_.max_num_seqs;
  num_steps_to_growth_ = is_whole ? 0 : kStepsToGrow;
}

void Scheduler::commit() {
  if (num_steps_to_growth_ > 0 && --num_steps_to_growth_ == 0) grow();
  for (const ScheduledRows& rows : schedule_.rows) {
    if (rows.sequence == nullptr) continue;
    Sequence& sequence = *rows.sequence;
    Progress& progress = sequence.mutable_progress();
    const int32_t end = rows.end_position();
    cache_.publish(sequence.tokens(), progress.num_computed, end, progress.block_table);
    progress.num_computed = end;
    const int32_t num_logits = std::min(end, num_wanted_prompt_logits(sequence));
    progress.num_prompt_logits = std::max(progress.num_prompt_logits, num_logits);
  }
}

void Scheduler::close(Sequence& sequence) {
  Progress& progress = sequence.mutable_progress();
  cache_.release(progress.block_table);
  order_.settle(sequence.spec().client, charge_of(sequence),
                progress.first_scheduled ? sequence.num_tokens() : 0);
  progress.state = SequenceState::kFinished;
  const bool has_token = progress.lost_sibling_had_token || sequence.has_generated();
  Sequence* older = std::exchange(progress.older_sibling, nullptr);
  Sequence* younger = std::exchange(progress.younger_sibling, nullptr);
  if (older != nullptr) {
    older->mutable_progress().younger_sibling = younger;
    older->mutable_progress().lost_sibling_had_token |= has_token;
  }
  if (younger != nullptr) {
    younger->mutable_progress().older_sibling = older;
    younger->mutable_progress().lost_sibling_had_token |= has_token;
  }
}

std::unique_ptr<Sequence> Scheduler::finish(Sequence& sequence) {
  SequenceList& list = sequence.progress().state == SequenceState::kRunning ? running_ : waiting_;
  close(sequence);
  const size_t row = sequence.progress().row_in_step;  // perhaps of an earlier step
  if (row < schedule_.rows.size() && schedule_.rows[row].sequence == &sequence) {
    schedule_.rows[row].sequence = nullptr;
  }
  return list.take(sequence);
}

std::vector<std::unique_ptr<Sequence>> Scheduler::finish_all() {
  std::vector<std::unique_ptr<Sequence>> all;
  for (SequenceList* list : {&running_, &waiting_}) {
    for (size_t i = 0; i < list->num_positions(); ++i) {
      if (list->at(i) != nullptr) all.push_back(finish(*list->at(i)));
    }
    list->compact();
  }
  return all;
}

bool Scheduler::is_empty() const {
  return running_.size() == 0 && waiting_.size() == 0;
}

base::TimePoint Scheduler::next_timeout() const {
  base::TimePoint next = base::TimePoint::max();
  for (const SequenceList* list : {&running_, &waiting_}) {
    for (size_t i = 0; i < list->num_positions(); ++i) {
      const Sequence* sequence = list->at(i);
      if (sequence == nullptr) continue;
      next = std::min({next, sequence->spec().deadline, sequence->spec().last_token_by,
                       first_token_limit(*sequence)});
      const auto& paused_since = sequence->progress().paused_since;
      if (paused_since) next = std::min(next, base::after(*paused_since, options_.stall_time));
    }
  }
  return next;
}

SchedulerCounts Scheduler::counts() const {
  return {.running = running_.size(),
          .waiting = waiting_.size(),
          .blocks_used = cache_.num_used(),
          .blocks_total = cache_.num_blocks(),
          .preemptions = num_preemptions_,
          .prefix_query_tokens = num_prefix_query_tokens_,
          .prefix_hit_tokens = num_prefix_hit_tokens_};
}

int64_t Scheduler::capacity_tokens() const {
  return int64_t{options_.num_blocks} * options_.block_size;
}

}  // namespace sluice::scheduler
