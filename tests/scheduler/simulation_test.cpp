// The scheduler under random workloads: SLUICE_SIMULATION_SEEDS or --seeds=N says how many,
// --first-seed=N where to begin (so --first-seed=17 --seeds=1 repeats one).

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <string_view>

#include "tests/scheduler/simulation.h"

namespace sluice::scheduler {
namespace {

uint64_t first_seed = 0;
uint64_t num_seeds = 10'000;

TEST(SchedulerSimulation, KeepsEveryRuleAndRepeatsItself) {
  Simulation::Figures all;
  for (uint64_t seed = first_seed; seed < first_seed + num_seeds; ++seed) {
    Simulation simulation(seed);
    ASSERT_EQ(simulation.run(), "") << "seed " << seed;
    Simulation again(seed);
    ASSERT_EQ(again.run(), "") << "seed " << seed << ", second run";
    ASSERT_EQ(simulation.trace(), again.trace()) << "seed " << seed;
    const auto& figures = simulation.figures();
    all.steps += figures.steps;
    all.preemptions += figures.preemptions;
    all.shared_tokens += figures.shared_tokens;
    all.pauses += figures.pauses;
    all.refused += figures.refused;
    for (const auto& [cause, count] : figures.ends) all.ends[cause] += count;
  }
  std::cout << num_seeds << " seeds: " << all.steps << " steps, " << all.preemptions
            << " preemptions, " << all.shared_tokens << " shared tokens, " << all.pauses
            << " pauses, " << all.refused << " requests refused; ends:";
  for (const auto& [cause, count] : all.ends) std::cout << " " << cause << " " << count;
  std::cout << "\n";
  if (num_seeds < 100) return;
  // The workload reaches what it is made for.
  const auto seeds = static_cast<int64_t>(num_seeds);
  EXPECT_GT(all.preemptions, seeds);
  EXPECT_GT(all.shared_tokens, seeds);
  EXPECT_GT(all.pauses, seeds);
  EXPECT_GT(all.refused, seeds / 10);
  for (const char* cause :
       {"stop", "length", "cancelled", "text stop", "deadline", "stalled", "failed"}) {
    EXPECT_GT(all.ends[cause], seeds / 50) << cause;
  }
}

}  // namespace

void read_arguments(int argc, char** argv) {
  if (const char* seeds = std::getenv("SLUICE_SIMULATION_SEEDS")) {
    num_seeds = std::strtoull(seeds, nullptr, 10);
  }
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value_of = [&](std::string_view flag) {
      return std::strtoull(argument.c_str() + flag.size(), nullptr, 10);
    };
    if (argument.starts_with("--seeds=")) num_seeds = value_of("--seeds=");
    if (argument.starts_with("--first-seed=")) first_seed = value_of("--first-seed=");
  }
}

}  // namespace sluice::scheduler

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  sluice::scheduler::read_arguments(argc, argv);
  return RUN_ALL_TESTS();
}
