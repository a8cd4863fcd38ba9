#pragma once

#include <string>

#include "cli/load_report.h"
#include "cli/load_run.h"

namespace sluice::cli {

// An SVG picture of a load: what shares of requests had their first token, and each further one,
// within which time; tokens per second and requests under way over the time of the load. One file
// without outside parts, readable on light and dark pages.
std::string load_plot(const LoadResult& result, const LoadFigures& figures,
                      const std::string& title);

}  // namespace sluice::cli
