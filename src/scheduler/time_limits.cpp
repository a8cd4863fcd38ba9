#include "scheduler/time_limits.h"

#include <algorithm>

namespace sluice::scheduler {
namespace {

using sequence::Progress;
using sequence::Sequence;
using sequence::StopSignal;

// Whether this completion or another one of its request, living or ended, has a token.
bool request_has_token(const Sequence& sequence) {
  const auto has_token = [](const Sequence& completion) {
    return completion.has_generated() || completion.progress().lost_sibling_had_token;
  };
  if (has_token(sequence)) return true;
  for (const auto next : {&Progress::older_sibling, &Progress::younger_sibling}) {
    const Sequence* sibling = sequence.progress().*next;
    for (; sibling != nullptr; sibling = sibling->progress().*next) {
      if (has_token(*sibling)) return true;
    }
  }
  return false;
}

}  // namespace

std::optional<EndCause> end_cause(const Sequence& sequence, base::TimePoint now,
                                  base::Duration stall_time) {
  switch (sequence.signals().stop.load(std::memory_order_acquire)) {
    case StopSignal::kTextStop:
      return EndCause::kTextStop;
    case StopSignal::kCancelled:
      return EndCause::kCancelled;
    case StopSignal::kNone:
      break;
  }
  const sequence::SequenceSpec& spec = sequence.spec();
  if (now >= spec.deadline) return EndCause::kDeadline;
  if (now >= spec.last_token_by) return EndCause::kTimeIsUp;
  if (now >= spec.first_token_by && !request_has_token(sequence)) return EndCause::kNoFirstToken;
  const auto& paused_since = sequence.progress().paused_since;
  if (paused_since && now - *paused_since >= stall_time) return EndCause::kStalled;
  return std::nullopt;
}

base::TimePoint first_token_limit(const Sequence& sequence) {
  const sequence::SequenceSpec& spec = sequence.spec();
  const base::TimePoint limit = std::min({spec.deadline, spec.first_token_by, spec.last_token_by});
  const bool is_met = limit != base::TimePoint::max() && request_has_token(sequence);
  return is_met ? base::TimePoint::max() : limit;
}

}  // namespace sluice::scheduler
