#pragma once

namespace sluice::benchmarks {

// Operations a second of one thread's tile unit with all operands in registers, measured for about
// 50 ms; a product and its sum count as two. Requires: Isa::kAmx.
double measure_bf16_tile_peak();
double measure_int8_tile_peak();

}  // namespace sluice::benchmarks
