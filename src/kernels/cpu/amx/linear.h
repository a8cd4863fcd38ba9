#pragma once

#include "kernels/cpu/kernel_table.h"

// `linear` on AMX's tile registers, for bfloat16 and for int8 and int4 weights.
namespace sluice::kernels::cpu::amx {

// True for what the functions below take; everything else is AVX-512's.
bool has_tiled_linear(DType type, WeightFormat format, int64_t rows);

int64_t tiled_input_bytes(const InputArgs& args);
void prepare_tiled_input(const InputArgs& args);
LinearPlan plan_tiled_linear(const InputArgs& args);
void linear_tiled(const LinearArgs& args, const LinearBlock& block, void* scratch);

}  // namespace sluice::kernels::cpu::amx
