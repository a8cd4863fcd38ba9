#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/cpu/kernel_table.h"

// What the CPU operators share: the machine's kernels and scratch memory.
namespace sluice::kernels::cpu {

// The kernels of cpu_isa(). Throws c10::Error where none can run.
const KernelTable& machine_kernels();

// What a thread's scratch memory is for; each use has its own, and keeps it for the next call.
enum class Scratch : uint8_t { kInput, kSums, kQueries, kParts, kCount };

// At least `bytes` bytes of the calling thread, aligned to a cache line, valid until its next call
// with the same use.
void* scratch(Scratch use, int64_t bytes);

}  // namespace sluice::kernels::cpu
