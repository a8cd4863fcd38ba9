#include <cstdint>

#include "kernels/cuda/device/intrinsics.cuh"
#include "kernels/cuda/device/kernels.h"
#include "kernels/cuda/device/sample_previous.h"

// A step that is put into the stream before the host knows what the step before has drawn: the
// device finds it where that step left it.
namespace sluice::kernels::cuda {
namespace {

constexpr int kThreads = 128;

// Grid: T / kThreads.
__global__ void feed_tokens_kernel(const FeedTokensArgs args) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= args.num_tokens || args.tokens[i] >= 0) return;
  const int64_t row = -1 - int64_t{args.tokens[i]};
  const bool is_drawn = row < args.num_drawn && args.drawn[row].fault == SampleFault::kNone;
  args.tokens[i] = is_drawn ? args.drawn[row].token_id : -1;
}

// Counts the drawn token with the row's others, which are by ascending id.
// Grid: R; one warp.
__global__ void count_previous_kernel(SampleRow* rows, SampleCount* counts,
                                      const SampleResult* previous) {
  SampleRow& row = rows[blockIdx.x];
  if (row.previous_row < 0 || row.num_counts == 0) return;
  const int lane = static_cast<int>(threadIdx.x);
  const SampleResult& drawn = previous[row.previous_row];
  if (drawn.fault != SampleFault::kNone) return;
  SampleCount* own = counts + row.first_count;
  const int32_t count = row.num_counts;
  int32_t smaller = 0;  // ids of the row's below the drawn one
  for (int32_t first = 0; first < count; first += kWarpThreads) {
    const int32_t i = first + lane;
    const uint32_t found = warp_ballot(i < count && own[i].token_id < drawn.token_id);
    smaller += __popc(found);
    if (found != 0xffffffffu) break;
  }
  const bool is_known = smaller < count && own[smaller].token_id == drawn.token_id;
  if (is_known) {
    if (lane == 0) ++own[smaller].num_generated;
    return;
  }
  // The larger ones move up by one, the last of them first.
  for (int32_t end = count; end > smaller; end -= kWarpThreads) {
    const int32_t i = end - 1 - lane;
    const bool moves = i >= smaller;
    SampleCount moved;
    if (moves) moved = own[i];
    warp_barrier();
    if (moves) own[i + 1] = moved;
    warp_barrier();
  }
  if (lane != 0) return;
  own[smaller] = {.token_id = drawn.token_id, .num_generated = 1};
  row.num_counts = count + 1;
}

}  // namespace

Status feed_tokens(const FeedTokensArgs& args, Stream stream) {
  const Grid grid{
      .blocks = dim3(static_cast<unsigned>((args.num_tokens + kThreads - 1) / kThreads)),
      .threads = kThreads,
      .block_memory_bytes = 0};
  return launch(&feed_tokens_kernel, grid, stream, args);
}

Status count_previous(const SampleArgs& args, Stream stream) {
  const Grid grid{.blocks = dim3(static_cast<unsigned>(args.num_rows)),
                  .threads = kWarpThreads,
                  .block_memory_bytes = 0};
  return launch(&count_previous_kernel, grid, stream, args.rows, args.counts, args.previous);
}

}  // namespace sluice::kernels::cuda
