#pragma once

#include <chrono>

namespace sluice::benchmarks {

// Operations per second of `round`, which does `operations` of them. A template over the
// instruction set's own callable, so that no code is shared between their files.
template <typename Round>
double measure_rate(Round round, double operations) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRounds = 100;
  double done = 0;
  std::chrono::duration<double> time{0};
  const auto begin = Clock::now();
  while (time.count() < 0.05) {
    for (int i = 0; i < kRounds; ++i) round();
    done += kRounds * operations;
    time = Clock::now() - begin;
  }
  return done / time.count();
}

}  // namespace sluice::benchmarks
