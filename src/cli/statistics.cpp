#include "cli/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace sluice::cli {

double quantile(std::vector<double> samples, double q) {
  if (samples.empty()) return 0;
  std::sort(samples.begin(), samples.end());
  const double place = std::clamp(q, 0.0, 1.0) * static_cast<double>(samples.size() - 1);
  const auto below = static_cast<size_t>(std::floor(place));
  const size_t above = std::min(below + 1, samples.size() - 1);
  const double share = place - static_cast<double>(below);
  return samples[below] + (samples[above] - samples[below]) * share;
}

Spread spread(const std::vector<double>& samples) {
  if (samples.empty()) return {};
  const auto [min, max] = std::minmax_element(samples.begin(), samples.end());
  return {quantile(samples, 0.5), *min, *max};
}

}  // namespace sluice::cli
