#pragma once

#include <immintrin.h>

#include <cstdint>

namespace sluice::kernels::cpu::amx {

// What LDTILECFG reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, int64_t num_rows, int bytes) {
    row_bytes[tile] = static_cast<uint16_t>(bytes);
    rows[tile] = static_cast<uint8_t>(num_rows);
  }
};

static inline void load_config(const TileConfig& config) {
  // The memory clobber keeps the stores to `config`: GCC 12 may drop them before the intrinsic.
  asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
}

// The tile intrinsics do not tell the compiler that they read or write memory. This keeps the
// stores before it, and the loads after it, on their side.
static inline void memory_fence() {
  asm volatile("" : : : "memory");
}

}  // namespace sluice::kernels::cpu::amx
