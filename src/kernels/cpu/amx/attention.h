#pragma once

#include "kernels/cpu/kernel_table.h"

namespace sluice::kernels::cpu::amx {

// Whether bfloat16 attention, over a cache of either format, runs on the tile registers: D and S
// are multiples of 16.
bool has_tiled_attention(const AttentionArgs& args);

// KernelTable::write_kv and ::attend for such arguments.
void write_kv_tiled(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                    int64_t num_rows);
void attend_tiled(const AttentionArgs& args, const AttentionBlock& block);

// The same for an int8 cache.
void write_int8_kv_tiled(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                         int64_t num_rows);
void attend_int8_tiled(const AttentionArgs& args, const AttentionBlock& block);

}  // namespace sluice::kernels::cpu::amx
