#pragma once

#include <string>

#include "cli/bench_run.h"
#include "cli/flags.h"

namespace sluice::cli {

// Adds --seed, --greedy, --temperature and --top-p, the same for both benchmarks. `seed_help` says
// what the seed decides. `bench` must outlive `flags`.
void add_draw_flags(Flags& flags, BenchOptions& bench, const std::string& seed_help);

}  // namespace sluice::cli
