#include "sequence/stop_criteria.h"

#include <algorithm>

namespace sluice::sequence {

std::optional<FinishReason> StopCriteria::check(int32_t token_id, int32_t num_generated,
                                                int32_t length) const {
  const auto is_in = [token_id](const std::vector<int32_t>& ids) {
    return std::ranges::find(ids, token_id) != ids.end();
  };
  const bool is_stop = is_in(stop_token_ids) || (!ignore_eos && is_in(end_token_ids));
  if (is_stop && !forbids_stop(num_generated - 1)) return FinishReason::kStop;
  if (ends_by_length(num_generated, length)) return FinishReason::kLength;
  return std::nullopt;
}

}  // namespace sluice::sequence
