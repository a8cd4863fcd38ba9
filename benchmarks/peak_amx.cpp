#include "kernels/cpu/amx/tiles.h"
#include "peak.h"
#include "peak_loop.h"

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
  constexpr int kTurns = 20;
  constexpr double kOperations = 4.0 * 2 * 16 * 16 * (kBytes ? 64 : 32);
  kernels::cpu::amx::TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.set(tile, 16, 64);
  kernels::cpu::amx::load_config(config);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  const double rate = measure_rate(
      [] {
        for (int turn = 0; turn < kTurns; ++turn) four_products<kBytes>();
      },
      kTurns * kOperations);
  _tile_release();
  return rate;
}

}  // namespace

Peak measure_amx_peak() {
  return {measure<false>(), measure<true>()};
}

}  // namespace sluice::benchmarks
