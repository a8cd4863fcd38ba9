#pragma once

#include <vector>

#include "base/json.h"
#include "sluice/error.h"
#include "sluice/generation.h"

namespace sluice::server {

// logit_bias as JSON interfaces have it: {"50256": -100}. The error says only what is expected, so
// that the caller can put the name before it.
Result<std::vector<LogitBias>> read_logit_bias(const Json& json);

}  // namespace sluice::server
