#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sluice/generation.h"

namespace sluice::sequence {

// When a token ends its stream: the engine's half of stopping. Stop strings are the other half and
// belong to the delivery thread (stop_strings.h, text_stream.h).
struct StopCriteria {
  int32_t max_tokens = 0;  // generated tokens, >= 1
  int32_t min_tokens = 0;  // end and stop tokens count only after this many generated tokens
  int32_t max_length = 0;  // prompt and generated tokens together (the context)
  bool ignore_eos = false;
  std::vector<int32_t> end_token_ids;   // the model's; without effect if ignore_eos
  std::vector<int32_t> stop_token_ids;  // the request's

  // Whether the sampler must give no probability to stop_token_ids, and to end_token_ids unless
  // ignore_eos, for the token that follows `num_generated` ones.
  bool forbids_stop(int32_t num_generated) const { return num_generated < min_tokens; }

  // Whether a stream ends with its `num_generated`-th token, whichever that is.
  bool ends_by_length(int32_t num_generated, int32_t length) const {
    return num_generated >= max_tokens || length >= max_length;
  }

  // Whether a stream ends with `token_id`, its `num_generated`-th generated token (from 1), being
  // `length` tokens long with it. kStop before kLength if both hold.
  std::optional<FinishReason> check(int32_t token_id, int32_t num_generated, int32_t length) const;
};

}  // namespace sluice::sequence
