#include "tile_peak.h"

#include <chrono>

#include "kernels/cpu/amx/tiles.h"

namespace sluice::benchmarks {
namespace {

template <bool kBytes>
void four_products() {
  if constexpr (kBytes) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  } else {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

template <bool kBytes>
double measure() {
  using Clock = std::chrono::steady_clock;
  kernels::cpu::amx::TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.set(tile, 16, 64);
  kernels::cpu::amx::load_config(config);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  constexpr int kRounds = 2000;
  constexpr double kOperations = 4.0 * 2 * 16 * 16 * (kBytes ? 64 : 32);
  double operations = 0;
  std::chrono::duration<double> time{0};
  const auto begin = Clock::now();
  while (time.count() < 0.05) {
    for (int i = 0; i < kRounds; ++i) four_products<kBytes>();
    operations += kRounds * kOperations;
    time = Clock::now() - begin;
  }
  _tile_release();
  return operations / time.count();
}

}  // namespace

double measure_bf16_tile_peak() {
  return measure<false>();
}
double measure_int8_tile_peak() {
  return measure<true>();
}

}  // namespace sluice::benchmarks
