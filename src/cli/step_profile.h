#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sluice/runtime.h"

namespace sluice::cli {

// Adds the profiles of another run, kind by kind and part by part.
void add_profiles(std::vector<StepProfile>& sums, const std::vector<StepProfile>& run);

// A table a kind of step: parts by time, milliseconds and calls of one step, share of the step.
// What the parts do not cover is shown as "rest".
std::string profile_text(const std::vector<StepProfile>& profiles);

// [{"kind","steps","tokens","ms","parts":[{"name","shape","calls","ms"}]}]; ms and calls are of one
// step, parts in order of first use.
nlohmann::ordered_json profile_json(const std::vector<StepProfile>& profiles);

}  // namespace sluice::cli
