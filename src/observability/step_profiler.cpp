#include "observability/step_profiler.h"

#include <algorithm>
#include <utility>

namespace sluice::observability {
namespace {

double milliseconds(base::Duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

}  // namespace

StepPart& StepProfiler::part_of(std::vector<StepPart>& parts, std::string_view name,
                                std::string_view shape) {
  const auto place = std::ranges::find_if(
      parts, [&](const StepPart& part) { return part.name == name && part.shape == shape; });
  if (place != parts.end()) return *place;
  StepPart& part = parts.emplace_back();
  part.name = name;
  part.shape = shape;
  return part;
}

void StepProfiler::add(std::string_view name, std::string_view shape, base::Duration time) {
  StepPart& part = part_of(step_, name, shape);
  ++part.calls;
  part.ms += milliseconds(time);
}

void StepProfiler::end_step(std::string_view kind, int64_t num_tokens, base::Duration whole) {
  const std::lock_guard lock(mutex_);
  auto profile = std::ranges::find(profiles_, kind, &StepProfile::kind);
  if (profile == profiles_.end()) {
    profiles_.emplace_back().kind = kind;
    profile = profiles_.end() - 1;
  }
  ++profile->steps;
  profile->tokens += num_tokens;
  profile->ms += milliseconds(whole);
  for (const StepPart& part : step_) {
    StepPart& sum = part_of(profile->parts, part.name, part.shape);
    sum.calls += part.calls;
    sum.ms += part.ms;
  }
  step_.clear();
}

std::vector<StepProfile> StepProfiler::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(profiles_, {});
}

}  // namespace sluice::observability
