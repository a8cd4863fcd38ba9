#pragma once

#include <optional>

#include "base/clock.h"
#include "scheduler/scheduler.h"
#include "sequence/sequence.h"

namespace sluice::scheduler {

// Why the sequence ends before the next step, if it does.
std::optional<EndCause> end_cause(const sequence::Sequence& sequence, base::TimePoint now,
                                  base::Duration stall_time);

// When its request's first token is late; never once any completion of the request has one.
base::TimePoint first_token_limit(const sequence::Sequence& sequence);

}  // namespace sluice::scheduler
