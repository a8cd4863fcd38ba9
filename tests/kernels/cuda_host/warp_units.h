#pragma once

#include <cstdint>

#include "cuda_types.h"

// What a warp's matrix units and exchanges do, as fibers.h's WarpWork.
namespace sluice::kernels::cuda::host {

// mma.sync.m16n8k16: a [16, 16], b [16, 8], sum [16, 8].
struct Multiply {
  uint4 a;
  uint2 b;
  float* sum;
};
void multiply_half(void* const* operands);
void multiply_bfloat16(void* const* operands);
// mma.sync.m16n8k32 of Float8, which is Multiply with b [32, 8].
void multiply_float8(void* const* operands);

// mma.sync.m16n8k32 of int8.
struct MultiplyBytes {
  uint4 a;
  uint2 b;
  int32_t* sum;
};
void multiply_bytes(void* const* operands);

// ldmatrix.m8n8.x4.trans. A row is 16 bytes of the block's memory, a multiple of 16.
struct LoadTransposed {
  const void* row;
  uint4 result;
};
void load_transposed(void* const* operands);

struct Ballot {
  bool value;
  uint32_t result;
};
void ballot(void* const* operands);

}  // namespace sluice::kernels::cuda::host
