#pragma once

#include "kernels/cpu/kernel_table.h"

namespace sluice::kernels::cpu::amx {

// KernelTable::write_kv and ::attend, for bfloat16 where simd::is_paired: on the tile registers, or
// with their bits by AVX-512 where few query rows would leave them mostly empty.
void write_kv_tiled(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                    int64_t num_rows);
void attend_tiled(const AttentionArgs& args, const AttentionBlock& block);

// The same for an int8 cache.
void write_int8_kv_tiled(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                         int64_t num_rows);
void attend_int8_tiled(const AttentionArgs& args, const AttentionBlock& block);

}  // namespace sluice::kernels::cpu::amx
