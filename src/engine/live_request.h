#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "sampling/params.h"
#include "sampling/sampler.h"
#include "sequence/sequence.h"
#include "sequence/stop_criteria.h"
#include "sequence/stop_strings.h"
#include "sequence/text_stream.h"
#include "sluice/generation.h"
#include "sluice/service.h"

namespace sluice::engine {

// A request that the validator has passed: every value checked, every default applied.
struct CheckedRequest {
  std::string id;
  size_t model_idx = 0;
  int32_t n = 1;
  std::vector<int32_t> prompt;  // >= 1 token
  std::string prompt_text;      // to echo; empty if not asked for
  sampling::SamplingParams sampling;
  sequence::StopCriteria stop;
  std::shared_ptr<const sequence::StopStrings> stop_strings;  // null: none
  bool echo = false;
  bool skip_special_tokens = true;
  base::TimePoint arrival;
  std::string client;
  base::TimePoint deadline;
  base::TimePoint first_token_by = base::TimePoint::max();
  base::TimePoint last_token_by = base::TimePoint::max();

  int64_t num_prompt_tokens() const { return std::ssize(prompt) * n; }  // of all completions
  bool wants_logprobs() const { return sampling.num_logprobs >= 0; }
  bool wants_prompt_chunk() const { return echo || sampling.num_prompt_logprobs >= 0; }
};

// Chunks handed to the observer and not yet taken, so that "n more tokens taken" finds the
// completion they belong to.
//
// Threads: any.
class UntakenTokens final {
 public:
  // Tokens of an echoed prompt (`counts` false) do not pause anything.
  void add(int32_t index, int32_t num_tokens, bool counts);
  // Takes `num_tokens` off, oldest first. Returns true if a paused completion may go on.
  bool take(int32_t num_tokens, const std::vector<std::shared_ptr<sequence::Signals>>& signals,
            int32_t max_undelivered);

 private:
  struct Entry {
    int32_t index;
    int32_t num_tokens;
    bool counts;
  };
  std::mutex mutex_;
  std::deque<Entry> entries_;
};

// What the delivery thread keeps of one completion.
struct DeliveryStream {
  std::optional<sequence::TextStream> text;  // empty without a tokenizer
  GenerateChunk chunk;                       // collected and not yet handed over
  bool has_chunk = false;
  bool is_prompt_due = false;  // the prompt's chunk goes first
  bool is_closed = false;      // its last chunk is complete: later tokens are discarded
  bool has_ended = false;      // the engine has let it go
  int32_t completion_tokens = 0;
  base::TimePoint last_token;                 // if there are completion_tokens
  FinishReason reason = FinishReason::kStop;  // once it is closed
};

// What the delivery thread keeps of one request.
struct DeliveryState {
  std::vector<DeliveryStream> streams;             // [n]
  std::vector<sampling::RowResult> prompt_scores;  // of prompt tokens 1, 2, ...
  int32_t num_ended = 0;
  int32_t cached_tokens = 0;
  bool is_touched = false;
  std::optional<Error> error;                  // the first one; ends the request
  FinishReason reason = FinishReason::kError;  // with an error: of the completion that had it
  base::TimePoint first_scheduled = base::TimePoint::max();
  base::TimePoint first_token = base::TimePoint::max();
  base::TimePoint last_token = base::TimePoint::min();
  base::TimePoint ended = base::TimePoint::min();
};

// A request from its acceptance to its end.
struct LiveRequest {
  CheckedRequest checked;                                   // fixed
  std::shared_ptr<GenerateObserver> observer;               // delivery thread, null once told
  std::vector<std::shared_ptr<sequence::Signals>> signals;  // [n], atomics
  int32_t max_undelivered = 0;                              // fixed
  UntakenTokens untaken;
  DeliveryState delivery;  // delivery thread
};

// What the engine hangs on a sequence.
struct SequenceState final : sequence::Attachment {
  std::shared_ptr<LiveRequest> request;
  sampling::TokenCounts counts;  // if the request has penalties
  int32_t drawn_row = -1;        // of its last step's results: the token that it drew
};

}  // namespace sluice::engine
