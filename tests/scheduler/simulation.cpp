#include "tests/scheduler/simulation.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <sstream>
#include <utility>

namespace sluice::scheduler {
namespace {

using sequence::Progress;
using sequence::Sequence;
using sequence::SequenceState;
using sequence::StopSignal;
using std::chrono::milliseconds;

constexpr int32_t kEndToken = 7;
constexpr int32_t kMaxSteps = 20'000;

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
  return hash ^ (hash >> 29);
}

const char* name_of(EndCause cause) {
  switch (cause) {
    case EndCause::kTextStop:
      return "text stop";
    case EndCause::kCancelled:
      return "cancelled";
    case EndCause::kDeadline:
      return "deadline";
    case EndCause::kNoFirstToken:
      return "no first token";
    case EndCause::kHopeless:
      return "hopeless";
    case EndCause::kTimeIsUp:
      return "time is up";
    case EndCause::kStalled:
      return "stalled";
  }
  return "";
}

}  // namespace

Simulation::Simulation(uint64_t seed) : random_(seed) {
  options_ = draw_options();
  scheduler_ = std::move(*Scheduler::create(options_));
  places_.assign(static_cast<size_t>(options_.num_blocks * options_.block_size), 0);
  arrival_percent_ = draw(5, 100);
  num_requests_left_ = draw(1, chance(30) ? 60 : 15);
  num_clients_ = chance(50) ? 1 : draw(2, 4);
}

SchedulerOptions Simulation::draw_options() {
  SchedulerOptions options;
  options.block_size = draw(1, 6);
  options.num_blocks = draw(3, chance(50) ? 12 : 60);
  options.max_model_len = std::min(64, options.num_blocks * options.block_size + draw(0, 8));
  options.max_model_len = std::max(2, options.max_model_len);
  options.max_num_seqs = draw(1, 8);
  options.max_num_batched_tokens = options.max_num_seqs + draw(0, chance(50) ? 4 : 40);
  options.max_chunk_tokens = chance(50) ? 0 : draw(1, 5);
  options.max_prompt_logit_rows = draw(1, 6);
  options.max_waiting_seqs = draw(4, 40);
  options.watermark_blocks = draw(-1, 3);
  options.keep_prefixes = chance(50);
  options.hash_seed = random_();
  options.stall_time = milliseconds(draw(20, 200));
  return options;
}

std::string Simulation::run() {
  for (int32_t i = 0; i < kMaxSteps && failure_.empty(); ++i) {
    if (num_requests_left_ > 0 && (num_living_ == 0 || chance(arrival_percent_))) arrive();
    if (num_requests_left_ == 0 && num_living_ == 0) break;
    read_and_signal();
    step();
  }
  if (failure_.empty() && num_living_ > 0) broken("not every request ended");
  if (failure_.empty() && !scheduler_->is_empty()) broken("the scheduler is not empty");
  if (failure_.empty() && scheduler_->counts().blocks_used != 0) broken("blocks leaked");
  figures_.preemptions = scheduler_->counts().preemptions;
  figures_.shared_tokens = scheduler_->counts().prefix_hit_tokens;
  return failure_;
}

template <typename... Parts>
bool Simulation::broken(const Parts&... parts) {
  if (!failure_.empty()) return true;
  std::ostringstream message;
  message << "step " << figures_.steps << ": ";
  (message << ... << parts);
  failure_ = message.str();
  return true;
}

void Simulation::arrive() {
  --num_requests_left_;
  std::vector<int32_t> prompt;
  if (chance(40)) {  // begins like an earlier one
    prompt.assign(last_prompt_.begin(),
                  last_prompt_.begin() + draw(0, static_cast<int32_t>(last_prompt_.size())));
  }
  for (int32_t i = draw(prompt.empty() ? 1 : 0, chance(20) ? 40 : 8); i > 0; --i) {
    prompt.push_back(draw(0, 1));
  }
  last_prompt_ = prompt;
  std::vector<std::unique_ptr<Sequence>> completions;
  std::vector<Sequence*> sequences;
  const int32_t n = chance(30) ? draw(2, 4) : 1;
  const sequence::SequenceSpec spec = draw_spec(prompt);
  for (int32_t i = 0; i < n; ++i) completions.push_back(draw_completion(spec, i));
  for (const auto& completion : completions) sequences.push_back(completion.get());

  const auto& stop = spec.stop;
  const auto length = static_cast<int32_t>(prompt.size());
  const int32_t most = std::min(length + stop.max_tokens, stop.max_length) - 1;
  const bool never_fits =
      length >= stop.max_length || most > options_.num_blocks * options_.block_size;
  const bool is_full = scheduler_->counts().waiting + n > options_.max_waiting_seqs;
  const auto added = scheduler_->add(completions);
  if (added.has_value() == (never_fits || is_full))
    broken("add() accepts what it must refuse, or not");
  if (!added) {
    if (completions.size() != sequences.size()) broken("a refused request was taken");
    const auto code = never_fits ? ErrorCode::kInvalidArgument : ErrorCode::kResourceExhausted;
    if (added.error().code != code) broken("wrong refusal: ", added.error().message);
    streams_.erase(streams_.lower_bound(next_order_), streams_.end());
    ++figures_.refused;
    return;
  }
  for (Sequence* sequence : sequences) {
    if (sequence->progress().order != next_order_) broken("orders are not those of arrival");
    streams_.at(next_order_++).sequence = sequence;
    ++num_living_;
  }
}

sequence::SequenceSpec Simulation::draw_spec(const std::vector<int32_t>& prompt) {
  sequence::SequenceSpec spec;
  spec.request = next_request_++;
  spec.prompt = prompt;
  spec.stop.max_tokens = draw(1, chance(20) ? 40 : 10);
  spec.stop.max_length = draw(std::max(2, options_.max_model_len / 2), options_.max_model_len);
  spec.stop.end_token_ids = {kEndToken};
  spec.stop.ignore_eos = chance(30);
  spec.stop.min_tokens = chance(20) ? draw(0, spec.stop.max_tokens) : 0;
  spec.client = std::to_string(draw(1, num_clients_));
  spec.arrival = clock_.now();
  if (chance(15)) spec.deadline = clock_.now() + milliseconds(draw(0, 150));
  spec.max_undelivered = draw(1, 8);
  return spec;
}

std::unique_ptr<Sequence> Simulation::draw_completion(sequence::SequenceSpec spec, int32_t index) {
  spec.index = index;
  if (index == 0 && chance(25)) spec.sampling.num_prompt_logprobs = 1;

  Stream stream;
  stream.signals = std::make_shared<sequence::Signals>();
  stream.num_prompt = static_cast<int32_t>(spec.prompt.size());
  stream.wants_prompt_logits = spec.sampling.num_prompt_logprobs >= 0;
  stream.reads_per_turn = chance(5) ? 0 : draw(1, 4);
  stream.deadline = spec.deadline;
  stream.cancel_at =
      chance(15) ? clock_.now() + milliseconds(draw(0, 150)) : base::TimePoint::max();
  stream.signal = chance(50) ? StopSignal::kCancelled : StopSignal::kTextStop;
  stream.tokens = spec.prompt;
  uint64_t hash = 0;
  for (const int32_t token : spec.prompt) {
    stream.hashes.push_back(hash = mix(hash, static_cast<uint64_t>(token)));
  }
  for (int32_t generated = 1; stream.num_prompt < spec.stop.max_length; ++generated) {
    const uint64_t drawn = mix(hash, spec.request * 16 + static_cast<uint64_t>(index) + 99);
    const int32_t token = static_cast<int32_t>(drawn >> 40) % 8;
    stream.tokens.push_back(token);
    stream.hashes.push_back(hash = mix(hash, static_cast<uint64_t>(token)));
    const auto length = static_cast<int32_t>(stream.tokens.size());
    const bool is_end =
        token == kEndToken && !spec.stop.ignore_eos && generated > spec.stop.min_tokens;
    if (is_end || generated == spec.stop.max_tokens || length == spec.stop.max_length) break;
  }
  auto sequence = std::make_unique<Sequence>(std::move(spec), stream.signals);
  streams_[next_order_ + static_cast<uint64_t>(index)] = std::move(stream);
  return sequence;
}

void Simulation::read_and_signal() {
  clock_.advance(milliseconds(draw(0, 4)));
  for (auto& [order, stream] : streams_) {
    if (stream.sequence == nullptr) continue;
    if (chance(40)) {
      const int32_t left = stream.signals->undelivered_tokens;
      stream.signals->undelivered_tokens -= std::min(left, stream.reads_per_turn);
    }
    if (clock_.now() >= stream.cancel_at && !stream.is_signalled) {
      stream.signals->request_stop(stream.signal);
      stream.is_signalled = true;
    }
  }
}

void Simulation::step() {
  ++figures_.steps;
  look_before();
  const StepSchedule& step = scheduler_->schedule(clock_.now());
  check_ended(step);
  check_budgets(step);
  check_rows(step);
  check_preempted();
  check_order();
  if (!failure_.empty()) return;
  for (const ScheduledRows& rows : step.rows) {
    add_to_trace(rows.sequence->progress().order);
    add_to_trace(static_cast<uint64_t>(rows.first_position * 1000 + rows.num_tokens));
    add_to_trace(static_cast<uint64_t>(rows.first_logits * 2 + (rows.draws_token ? 1 : 0)));
  }
  add_to_trace(static_cast<uint64_t>(step.ended.size()) * 1000 +
               static_cast<uint64_t>(step.num_preempted));
  for (const EndedSequence& one : step.ended) end(*one.sequence, name_of(one.cause));

  if (!step.rows.empty()) {
    run_model(step);
    check_blocks();
  } else if (num_living_ > 0) {
    // Nothing can run: sleep until something may time out, as an engine would.
    const base::TimePoint next = scheduler_->next_timeout();
    if (next < clock_.now()) broken("next_timeout() is in the past");
    if (next == base::TimePoint::max()) broken("a paused sequence would never time out");
    if (chance(50)) clock_.set(std::max(clock_.now(), next));
  }
}

void Simulation::run_model(const StepSchedule& step) {
  if (draw(1, 300) == 1) {  // the model call failed, for all or for some
    const int32_t percent = chance(50) ? 100 : 30;
    for (const ScheduledRows& rows : step.rows) {
      if (!chance(percent)) continue;
      for (int32_t p = rows.first_position; p < rows.end_position(); ++p) {
        place(*rows.sequence, p) = random_();
      }
      end(*scheduler_->finish(*rows.sequence), "failed");
      if (rows.sequence != nullptr) broken("a finished sequence stays in the step");
    }
  }
  for (const ScheduledRows& rows : step.rows) {
    if (rows.sequence != nullptr) run_rows(rows);
  }
  scheduler_->commit();
  if (failure_.empty()) draw_tokens(step);
}

void Simulation::run_rows(const ScheduledRows& rows) {
  const Sequence& sequence = *rows.sequence;
  const Stream& stream = stream_of(sequence);
  for (int32_t position = rows.first_position; position < rows.end_position(); ++position) {
    place(sequence, position) = stream.hashes[static_cast<size_t>(position)];
  }
  // Attention of the last row reads all places before it.
  for (int32_t position = 0; position < rows.end_position(); ++position) {
    if (place(sequence, position) == stream.hashes[static_cast<size_t>(position)]) continue;
    broken("sequence ", sequence.progress().order, " reads a wrong place at ", position);
    return;
  }
}

void Simulation::draw_tokens(const StepSchedule& step) {
  for (const ScheduledRows& rows : step.rows) {
    if (rows.sequence == nullptr) continue;
    Sequence& sequence = *rows.sequence;
    Stream& stream = stream_of(sequence);
    const int32_t num_wanted = stream.wants_prompt_logits ? stream.num_prompt - 1 : 0;
    const int32_t end_logits = rows.draws_token ? rows.end_position() - 1 : rows.end_position();
    for (int32_t position = rows.first_logits; position < end_logits; ++position) {
      if (position != stream.num_prompt_logits) broken("prompt logits not once and in order");
      ++stream.num_prompt_logits;
    }
    if (stream.num_prompt_logits > num_wanted) broken("prompt logits that nobody asked for");
    if (!rows.draws_token) continue;
    if (stream.num_prompt_logits != num_wanted) broken("prompt logits are missing");
    if (draw(1, 500) == 1) {  // its logits were not finite
      end(*scheduler_->finish(sequence), "failed");
      continue;
    }
    const auto position = static_cast<size_t>(stream.num_prompt + stream.num_emitted);
    if (position != static_cast<size_t>(sequence.num_tokens())) broken("a token is emitted twice");
    if (position >= stream.tokens.size()) {
      broken("sequence ", sequence.progress().order, " goes on after its end");
      return;
    }
    const auto reason = sequence.append(stream.tokens[position]);
    ++stream.num_emitted;
    stream.signals->undelivered_tokens += 1;
    const bool is_last = position + 1 == stream.tokens.size();
    if (reason.has_value() != is_last) broken("wrong end of a stream");
    if (reason) end(*scheduler_->finish(sequence), to_string(*reason));
  }
}

void Simulation::end(const Sequence& sequence, const std::string& cause) {
  Stream& stream = stream_of(sequence);
  if (stream.sequence != &sequence) broken("a sequence ended twice");
  if (sequence.progress().state != SequenceState::kFinished) broken("ended and not finished");
  if (!sequence.progress().block_table.empty()) broken("an ended sequence holds blocks");
  const auto tokens = sequence.tokens();
  if (!std::equal(tokens.begin(), tokens.end(), stream.tokens.begin())) broken("wrong tokens");
  stream.sequence = nullptr;
  --num_living_;
  ++figures_.ends[cause];
}

void Simulation::look_before() {
  before_.clear();
  for (const auto& [order, stream] : streams_) {
    if (stream.sequence == nullptr) continue;
    const Progress& progress = stream.sequence->progress();
    Before& before = before_[age_of(*stream.sequence)];
    before = {.was_running = progress.state == SequenceState::kRunning,
              .is_paused = stream.sequence->reader_is_slow(),
              .is_decode = progress.num_computed == stream.sequence->num_tokens() - 1,
              .was_started = progress.first_scheduled.has_value(),
              .num_computed = progress.num_computed};
    figures_.pauses += before.is_paused && !progress.paused_since ? 1 : 0;
  }
}

void Simulation::check_ended(const StepSchedule& step) {
  std::map<uint64_t, EndCause> ended;
  for (const EndedSequence& one : step.ended) {
    ended.emplace(one.sequence->progress().order, one.cause);
  }
  for (const auto& [order, stream] : streams_) {
    if (stream.sequence == nullptr) continue;
    const auto found = ended.find(order);
    const bool is_ended = found != ended.end();
    const bool is_late = clock_.now() >= stream.deadline;
    if ((stream.is_signalled || is_late) && !is_ended) {
      broken("sequence ", order, " was cancelled or is late, and runs");
    }
    if (!is_ended) continue;
    const Age age = age_of(*stream.sequence);
    const bool is_paused = before_.at(age).is_paused;
    const bool is_right =
        stream.is_signalled
            ? found->second == (stream.signal == StopSignal::kCancelled ? EndCause::kCancelled
                                                                        : EndCause::kTextStop)
        : is_late ? found->second == EndCause::kDeadline
                  : found->second == EndCause::kStalled && is_paused;
    if (!is_right) broken("sequence ", order, " ended for a wrong cause: ", name_of(found->second));
    before_.erase(age);
  }
}

void Simulation::check_budgets(const StepSchedule& step) {
  int32_t num_tokens = 0;
  int32_t num_prompt_logits = 0;
  for (const ScheduledRows& rows : step.rows) {
    num_tokens += rows.num_tokens;
    const int32_t num_logits = rows.end_position() - rows.first_logits;
    num_prompt_logits += num_logits - (rows.draws_token ? 1 : 0);
    if (options_.max_chunk_tokens > 0 && rows.num_tokens > options_.max_chunk_tokens) {
      broken("a chunk is too long");
    }
    if (rows.num_tokens < 1 || num_logits < 0) broken("a sequence without rows");
  }
  if (num_tokens != step.num_tokens) broken("num_tokens is wrong");
  if (num_tokens > options_.max_num_batched_tokens) broken("too many tokens");
  if (num_prompt_logits > options_.max_prompt_logit_rows) broken("too many prompt logits");
  if (scheduler_->counts().running > options_.max_num_seqs) broken("too many sequences run");
}

void Simulation::check_rows(const StepSchedule& step) {
  std::set<uint64_t> scheduled;
  for (const ScheduledRows& rows : step.rows) {
    const Progress& progress = rows.sequence->progress();
    if (!scheduled.insert(progress.order).second) broken("scheduled twice");
    const auto before = before_.find(age_of(*rows.sequence));
    if (before == before_.end()) {
      broken("an ended sequence is scheduled");
      return;
    }
    if (before->second.is_paused) broken("a paused sequence is scheduled");
    if (rows.first_position != progress.num_computed) broken("wrong first position");
    if (rows.end_position() > rows.sequence->num_tokens()) broken("rows past the end");
    if (rows.draws_token != (rows.end_position() == rows.sequence->num_tokens())) {
      broken("draws_token is wrong");
    }
    const auto places = std::ssize(progress.block_table) * options_.block_size;
    if (places < rows.end_position()) broken("a block table is too short");
  }
  bool is_oldest = true;
  bool can_run = false;
  for (const auto& [age, before] : before_) {
    const uint64_t order = age.second;
    can_run = can_run || !before.is_paused;
    if (before.is_paused || !before.was_running) continue;
    const bool still_runs =
        stream_of(*streams_[order].sequence).sequence->progress().state == SequenceState::kRunning;
    if (is_oldest && !scheduled.contains(order)) broken("the oldest makes no progress");
    if (before.is_decode && still_runs && !scheduled.contains(order)) broken("a decode starves");
    is_oldest = false;
  }
  if (can_run && step.rows.empty()) broken("somebody could run and nobody does");
}

// Blocks are taken from paused sequences first, then from the youngest.
void Simulation::check_preempted() {
  bool is_any_preempted = false;
  for (const auto& [age, before] : before_) {
    const uint64_t order = age.second;
    if (!before.was_running) continue;
    const bool still_runs = streams_[order].sequence->progress().state == SequenceState::kRunning;
    if (!before.is_paused && still_runs && is_any_preempted) {
      broken("sequence ", order, " keeps its blocks while an older one loses them");
    }
    is_any_preempted = is_any_preempted || (!before.is_paused && !still_runs);
  }
  for (const auto& [age, before] : before_) {
    const uint64_t order = age.second;
    if (!is_any_preempted || !before.was_running || !before.is_paused) continue;
    if (streams_[order].sequence->progress().state == SequenceState::kRunning) {
      broken("a paused sequence keeps its blocks while another loses them");
    }
  }
}

// Nobody is started while an older one waits that could have been.
void Simulation::check_order() {
  Age youngest_started{0, 0};
  for (const auto& [age, before] : before_) {
    const uint64_t order = age.second;
    const Progress& progress = streams_[order].sequence->progress();
    if (before.was_running || progress.state != SequenceState::kRunning) continue;
    youngest_started = age;
    if (waits_for_sibling(*streams_[order].sequence)) broken("a sibling's work is done twice");
  }
  for (const auto& [age, before] : before_) {
    const uint64_t order = age.second;
    if (age >= youngest_started) break;
    const Sequence& sequence = *streams_[order].sequence;
    if (sequence.progress().state != SequenceState::kWaiting || before.is_paused) continue;
    if (waits_for_sibling(sequence)) continue;
    broken("sequence ", order, " was overtaken by ", youngest_started.second);
  }
}

bool Simulation::waits_for_sibling(const Sequence& sequence) const {
  const int32_t size = options_.block_size;
  const int32_t border = (sequence.num_prompt_tokens() - 1) / size * size;
  for (const auto& [age, before] : before_) {
    const uint64_t order = age.second;
    const Sequence& other = *streams_.at(order).sequence;
    if (age >= age_of(sequence)) break;
    if (other.spec().request != sequence.spec().request || before.is_paused) continue;
    if (other.progress().num_computed < border) return true;
  }
  return false;
}

void Simulation::check_blocks() {
  std::set<kv_cache::BlockId> used;
  for (const auto& [order, stream] : streams_) {
    if (stream.sequence == nullptr) continue;
    const Sequence& sequence = *stream.sequence;
    const Progress& progress = sequence.progress();
    const auto& table = progress.block_table;
    if (progress.state == SequenceState::kWaiting && !table.empty()) broken("waits with blocks");
    used.insert(table.begin(), table.end());
    for (int32_t position = 0; position < progress.num_computed; ++position) {
      if (place(sequence, position) == stream.hashes[static_cast<size_t>(position)]) continue;
      broken("a block of sequence ", order, " was written by somebody else");
      return;
    }
  }
  if (scheduler_->counts().blocks_used != std::ssize(used)) broken("blocks are counted wrongly");
}

uint64_t& Simulation::place(const Sequence& sequence, int32_t position) {
  const int32_t size = options_.block_size;
  const auto block = sequence.progress().block_table[static_cast<size_t>(position / size)];
  return places_[static_cast<size_t>(block * size + position % size)];
}

void Simulation::add_to_trace(uint64_t value) {
  trace_ = mix(trace_, value);
}

}  // namespace sluice::scheduler
