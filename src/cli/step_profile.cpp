#include "cli/step_profile.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "cli/format.h"

namespace sluice::cli {
namespace {

double per_step(double sum, const StepProfile& profile) {
  return sum / static_cast<double>(std::max<int64_t>(1, profile.steps));
}

std::vector<std::string> line(const StepPart& part, const StepProfile& profile) {
  return {part.name, part.shape,
          fmt::format("{:.4g}", per_step(static_cast<double>(part.calls), profile)),
          fmt::format("{:.3f}", per_step(part.ms, profile)),
          fmt::format("{:.1f} %", 100 * part.ms / std::max(profile.ms, 1e-9))};
}

std::string one_table(const StepProfile& profile) {
  std::vector<StepPart> parts = profile.parts;
  StepPart rest{"rest", "", profile.steps, profile.ms};
  for (const StepPart& part : parts) rest.ms -= part.ms;
  parts.push_back(rest);
  std::ranges::stable_sort(parts, std::ranges::greater(), &StepPart::ms);
  std::vector<std::vector<std::string>> rows{{"part", "shape", "calls", "ms/step", "share"}};
  for (const StepPart& part : parts) rows.push_back(line(part, profile));
  return fmt::format("{} steps: {}, {:.1f} rows and {} each\n", profile.kind,
                     format_count(profile.steps),
                     per_step(static_cast<double>(profile.tokens), profile),
                     format_milliseconds(per_step(profile.ms, profile))) +
         table(rows);
}

}  // namespace

void add_profiles(std::vector<StepProfile>& sums, const std::vector<StepProfile>& run) {
  for (const StepProfile& profile : run) {
    auto sum = std::ranges::find(sums, profile.kind, &StepProfile::kind);
    if (sum == sums.end()) {
      sums.push_back(profile);
      continue;
    }
    sum->steps += profile.steps;
    sum->tokens += profile.tokens;
    sum->ms += profile.ms;
    for (const StepPart& part : profile.parts) {
      const auto known = std::ranges::find_if(sum->parts, [&](const StepPart& one) {
        return one.name == part.name && one.shape == part.shape;
      });
      if (known == sum->parts.end()) {
        sum->parts.push_back(part);
      } else {
        known->calls += part.calls;
        known->ms += part.ms;
      }
    }
  }
}

std::string profile_text(const std::vector<StepProfile>& profiles) {
  std::string text;
  for (const StepProfile& profile : profiles) text += "\n" + one_table(profile);
  return text;
}

nlohmann::ordered_json profile_json(const std::vector<StepProfile>& profiles) {
  auto kinds = nlohmann::ordered_json::array();
  for (const StepProfile& profile : profiles) {
    auto parts = nlohmann::ordered_json::array();
    for (const StepPart& part : profile.parts) {
      parts.push_back({{"name", part.name},
                       {"shape", part.shape},
                       {"calls", per_step(static_cast<double>(part.calls), profile)},
                       {"ms", per_step(part.ms, profile)}});
    }
    kinds.push_back({{"kind", profile.kind},
                     {"steps", profile.steps},
                     {"tokens", profile.tokens},
                     {"ms", per_step(profile.ms, profile)},
                     {"parts", parts}});
  }
  return kinds;
}

}  // namespace sluice::cli
