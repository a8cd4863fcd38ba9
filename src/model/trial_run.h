#pragma once

#include <cstdint>
#include <vector>

#include "model/golden_logits.h"
#include "model/model_runner.h"
#include "sluice/error.h"

namespace sluice::model {

// Runs a sequence alone: most of it as one chunk of prefill, the rest token by token, as serving
// does. Returns the logits [T][C] of `columns` after each token. kInternal as
// ModelRunner::forward; kResourceExhausted.
// Requires: T > 0, and the runner has no KV pool yet; it gets one that holds T tokens.
Result<std::vector<std::vector<float>>> run_trial(ModelRunner& runner,
                                                  const std::vector<int32_t>& token_ids,
                                                  const std::vector<int32_t>& columns,
                                                  int32_t block_size);

// Computes a package's golden logits on this machine. Errors and requirements: as run_trial.
Result<GoldenLogits> make_golden(ModelRunner& runner, int32_t block_size);

// Runs the golden sequence, as far as the context reaches. kFailedPrecondition, with both numbers,
// if the logits are not those of the import within their bound. Else as run_trial.
Result<void> check_golden(ModelRunner& runner, const GoldenLogits& golden, int32_t block_size);

}  // namespace sluice::model
