#pragma once

#include <vector>

namespace sluice::cli {

// The value below which a share `q` (0 to 1) of the samples lies, with linear interpolation
// between neighbours (Hyndman and Fan 1996, type 7; NumPy's default). 0 if there are none.
double quantile(std::vector<double> samples, double q);

// What a benchmark prints of one figure.
struct Spread {
  double median = 0;
  double min = 0;
  double max = 0;
};
Spread spread(const std::vector<double>& samples);

}  // namespace sluice::cli
