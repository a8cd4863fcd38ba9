#pragma once

#include "kernels/cuda/device/attention_rows.cuh"

// attention's kernels, as their host functions put them into a stream.
namespace sluice::kernels::cuda {

// Rotates queries, and writes keys and values to the cache. attention_write.cu
Status write_cache(const AttentionArgs& args, const AttentionStep& step, Stream stream);

// The attention itself: rows by parts, and those of chunks. With matrix units, for 16-bit numbers
// where `uses_tensors`; else one warp a query. A Float8 cache's are in a file of their own for all
// types, which shares out the compiler's time.
bool uses_tensors(const AttentionArgs& args);
Status attend_bf16(const AttentionArgs& args, const AttentionStep& step, Stream stream);
Status attend_f16(const AttentionArgs& args, const AttentionStep& step, Stream stream);
Status attend_float8(const AttentionArgs& args, const AttentionStep& step, Stream stream);
Status attend_plain(const AttentionArgs& args, const AttentionStep& step, Stream stream);

}  // namespace sluice::kernels::cuda
