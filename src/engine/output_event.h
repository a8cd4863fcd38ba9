#pragma once

#include <optional>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "engine/live_request.h"
#include "sampling/sampler.h"
#include "sluice/error.h"
#include "sluice/generation.h"

namespace sluice::engine {

// A generated token. `reason` is set if the stream ends with it.
struct TokenOutput {
  sampling::RowResult drawn;
  std::optional<FinishReason> reason;
};

// The score of one prompt token; they come in order, from the prompt's second token on.
struct PromptScoreOutput {
  sampling::RowResult score;
};

// The engine holds nothing of this completion any more: exactly one for each, and its last event.
struct StreamEnd {
  std::optional<Error> error;  // why it ended, unless it ended by a token or a stop string
  FinishReason reason = FinishReason::kStop;  // with an error: what its last chunk says
  std::optional<base::TimePoint> first_scheduled;
  int32_t cached_tokens = 0;
};

// One thing that the engine tells the delivery side. `request` lives until the delivery side has
// seen the StreamEnd of its last completion.
struct OutputEvent {
  LiveRequest* request = nullptr;
  int32_t index = 0;
  base::TimePoint time;  // of the step
  std::variant<TokenOutput, PromptScoreOutput, StreamEnd> what;
};

// Where a step's events go, in one hand-over. Swaps `events` for an empty vector.
class OutputSink {
 public:
  virtual ~OutputSink() = default;
  virtual void publish(std::vector<OutputEvent>& events) = 0;
};

}  // namespace sluice::engine
