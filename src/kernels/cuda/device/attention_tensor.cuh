#pragma once

#include "kernels/cuda/device/attention.h"
#include "kernels/cuda/device/attention_warp.cuh"

// Attention's kernels of attention_warp.cuh, and their launches.
namespace sluice::kernels::cuda {

// The keys that a block's vectors see between them. Both ends ascend with the row.
template <typename Tiles>
__device__ inline RowSpan seen_by_block(const AttentionStep& step, const AttentionWork& work,
                                        int num_vectors) {
  const int last_vector = min(work.first_vector + Tiles::kVectors, num_vectors) - 1;
  RowSpan first = query_vector(step, work, work.first_vector).span;
  RowSpan last = query_vector(step, work, last_vector).span;
  if constexpr (!Tiles::kWalks) {
    first = part_of(first, work.part);
    last = part_of(last, work.part);
  }
  return {first.first, last.last};
}

// How many blocks the vectors of all sequences before `b` fill, one after the other.
template <typename Tiles>
__device__ inline int64_t blocks_before(const AttentionStep& step, int b) {
  return int64_t{step.starts[b]} * step.sharing / Tiles::kVectors;
}

// Blocks of a grid of parts, about. Contexts differ, and blocks of parts that no row has cost a
// microsecond each: where there are many sequences, a block takes more than one part.
inline constexpr int64_t kPartBlocks = 16384;

// Rows by parts. Grid: in x `num_first` blocks for each sequence, which do for a row, then as many
// as all rows may need beyond them; KV heads in y; in z parts, in turns. A block is a warp.
template <typename Tiles>
__global__ void __launch_bounds__(Tiles::kThreads)
    attend_parts_kernel(const Awaited<AttentionStep> given, int num_first) {
  const AttentionStep& step = given.wait();
  const int index = static_cast<int>(blockIdx.x);
  const int more = index - step.num_sequences * num_first;
  AttentionWork work;
  work.kv_head = static_cast<int>(blockIdx.y);
  if (more < 0) {
    work.sequence = index / num_first;
    work.first_vector = index % num_first * Tiles::kVectors;
  } else {
    work.sequence = warp_find_last(step.num_sequences,
                                   [&](int b) { return blocks_before<Tiles>(step, b) <= more; });
    const auto before = static_cast<int>(blocks_before<Tiles>(step, work.sequence));
    work.first_vector = (num_first + more - before) * Tiles::kVectors;
  }
  const int rows = step.starts[work.sequence + 1] - step.starts[work.sequence];
  if (work.first_vector >= rows * step.sharing || (rows != 1 && !step.all_by_parts)) return;
#pragma unroll 1
  for (work.part = static_cast<int>(blockIdx.z); work.part < step.max_parts;
       work.part += static_cast<int>(gridDim.z)) {
    const RowSpan seen = seen_by_block<Tiles>(step, work, rows * step.sharing);
    if (seen.first >= seen.last) return;
    Attention<Tiles> attention(step, work);
    attention.run(seen.first, seen.last);
    attention.store();
  }
}

// Rows of chunks. Grid: blocks of vectors in x, the last of them first as they see most; KV heads
// in y.
template <typename Tiles>
__global__ void __launch_bounds__(Tiles::kThreads)
    attend_chunks_kernel(const Awaited<AttentionStep> given) {
  const AttentionStep& step = given.wait();
  const int index = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  AttentionWork work;
  // A sequence's last block need not be full: one more for each.
  work.sequence = warp_find_last(step.num_sequences,
                                 [&](int b) { return blocks_before<Tiles>(step, b) + b <= index; });
  work.kv_head = static_cast<int>(blockIdx.y);
  work.first_vector =
      static_cast<int>(index - work.sequence - blocks_before<Tiles>(step, work.sequence)) *
      Tiles::kVectors;
  const int begin = step.starts[work.sequence];
  const int rows = step.starts[work.sequence + 1] - begin;
  // A sequence's only row goes by parts.
  if (rows <= 1 || work.first_vector >= rows * step.sharing) return;
  const RowSpan seen = seen_by_block<Tiles>(step, work, rows * step.sharing);
  Attention<Tiles> attention(step, work);
  attention.run(seen.first, seen.last);
  attention.store();
}

template <typename T, typename C, int kSize>
Status attend_tensor(const AttentionStep& step, Stream stream) {
  using Parts = Tiles<T, C, kSize, false>;
  using Chunks = Tiles<T, C, kSize, true>;
  const auto kv_heads = static_cast<unsigned>(step.num_kv_heads);
  const int64_t vectors = int64_t{step.num_tokens} * step.sharing;
  if (step.all_by_parts || step.num_sequences > 1) {
    const int64_t num_first = (step.sharing + Parts::kVectors - 1) / Parts::kVectors;
    const int64_t more = step.all_by_parts ? vectors / Parts::kVectors : 0;
    const int64_t blocks = step.num_sequences * num_first + more;
    const int64_t parts = max(kPartBlocks / (blocks * step.num_kv_heads), int64_t{1});
    const Grid grid{.blocks = dim3(static_cast<unsigned>(blocks), kv_heads,
                                   static_cast<unsigned>(min(parts, int64_t{step.max_parts}))),
                    .threads = Parts::kThreads,
                    .block_memory_bytes = Parts::kBlockBytes};
    const Status status =
        launch(&attend_parts_kernel<Parts>, grid, stream, step, static_cast<int>(num_first));
    if (status != kSuccess) return status;
  }
  if (step.all_by_parts) return kSuccess;
  const Grid grid{
      .blocks =
          dim3(static_cast<unsigned>(vectors / Chunks::kVectors + step.num_sequences), kv_heads),
      .threads = Chunks::kThreads,
      .block_memory_bytes = Chunks::kBlockBytes};
  return launch(&attend_chunks_kernel<Chunks>, grid, stream, step);
}

template <typename T, typename C>
Status attend_tensor_of(const AttentionStep& step, Stream stream) {
  if (step.head_size <= 64) return attend_tensor<T, C, 64>(step, stream);
  if (step.head_size <= 128) return attend_tensor<T, C, 128>(step, stream);
  return attend_tensor<T, C, 256>(step, stream);
}

}  // namespace sluice::kernels::cuda
