#include <cstddef>
#include <cstdint>

#include "kernels/cuda/device/intrinsics.cuh"
#include "kernels/cuda/device/kernels.h"
#include "kernels/cuda/device/sample_finish.cuh"
#include "kernels/cuda/device/sample_passes.cuh"
#include "kernels/cuda/device/sample_plan.cuh"
#include "kernels/cuda/device/sample_previous.h"

// sampling/sampler.h's sampler on the device. Weights are integers and ties go by id, so sums and
// choices have no order to keep, and the result is the host's, bit for bit.
//
//   scan    each chunk's range and best element                  a pass over all logits
//   plan    each row's maximum, faults, where cuts may be
//   weigh   each chunk's mass, the elements where cuts may be    a pass over what matters
//   finish  cuts, draw, logprobs                                 a pass if a guess misled
//
// Rows that take the most likely token are done after `plan`. `weigh` reads a chunk only if its
// best element can matter: all of a row for the mass of the whole (top_p, or no cut at all), what
// reaches the guess for top_k, what reaches the cut for min_p alone.
namespace sluice::kernels::cuda {
namespace {

constexpr int32_t kFewestChunkTiles = 4;
constexpr int64_t kFewestCandidates = 8192;
constexpr int64_t kCandidateShare = 8;  // one of so many elements, in large rows

int32_t chunk_bits_for(int64_t vocabulary_size) {
  int32_t bits = 0;
  while ((1 << bits) < kFewestChunkTiles * kTile) ++bits;
  while ((vocabulary_size - 1) >> bits >= kMaxChunks) ++bits;
  return bits;
}

// Hands out parts of the workspace, or tells only how much there must be.
class Parts final {
 public:
  explicit Parts(void* begin) : begin_(static_cast<std::byte*>(begin)) {}

  template <typename T>
  T* take(int64_t count) {
    constexpr int64_t kAlignment = 256;
    std::byte* part = begin_ == nullptr ? nullptr : begin_ + used_;
    used_ += (count * int64_t{sizeof(T)} + kAlignment - 1) / kAlignment * kAlignment;
    return reinterpret_cast<T*>(part);
  }
  int64_t used_bytes() const { return used_; }

 private:
  std::byte* begin_;
  int64_t used_ = 0;
};

Sampling lay_out(const SampleArgs& args, Parts& parts) {
  const int64_t size = args.vocabulary_size;
  Sampling sampling{};
  sampling.args = args;
  sampling.num_rows = static_cast<int32_t>(args.num_rows);
  sampling.vocabulary_size = static_cast<int32_t>(size);
  sampling.chunk_bits = chunk_bits_for(size);
  sampling.num_chunks = static_cast<int32_t>(((size - 1) >> sampling.chunk_bits) + 1);
  const int64_t share = size / kCandidateShare;
  const int64_t candidates = share < kFewestCandidates ? kFewestCandidates : share;
  sampling.max_candidates = static_cast<uint32_t>(candidates < size ? candidates : size);
  const int64_t rows = args.num_rows * (args.scores ? 2 : 1);
  sampling.chunks = parts.take<ChunkState>(rows * sampling.num_chunks);
  sampling.sums = parts.take<ChunkSums>(rows * sampling.num_chunks);
  sampling.plans = parts.take<RowPlan>(rows);
  if (candidates < size) {
    const int64_t columns = args.num_rows * sampling.num_chunks * kWarpThreads;
    sampling.column_best = parts.take<Rank>(columns);
    sampling.column_key = parts.take<int32_t>(columns);
  }
  sampling.candidates = parts.take<Rank>(rows * int64_t{sampling.max_candidates});
  return sampling;
}

}  // namespace

int64_t sample_workspace(const SampleArgs& args) {
  Parts parts(nullptr);
  lay_out(args, parts);
  return parts.used_bytes();
}

Status sample(const SampleArgs& args, Stream stream) {
  if (args.num_rows == 0) return kSuccess;
  Parts parts(args.workspace);
  const Sampling sampling = lay_out(args, parts);
  const auto num_rows = static_cast<unsigned>(args.num_rows);
  const unsigned num_views = args.scores ? 2 : 1;
  const unsigned num_passes = (static_cast<unsigned>(sampling.num_chunks) - 1) / kPassWarps + 1;
  const Grid pass{.blocks = dim3(num_passes, num_rows, num_views),
                  .threads = kPassWarps * kWarpThreads,
                  .block_memory_bytes = kPassMemoryBytes};
  const Grid plan{.blocks = dim3(num_rows, num_views),
                  .threads = kSampleThreads,
                  .block_memory_bytes = sizeof(PlanMemory)};
  const Grid finish{
      .blocks = dim3(num_rows), .threads = kSampleThreads, .block_memory_bytes = sizeof(Work)};
  Status status = args.previous == nullptr ? kSuccess : count_previous(args, stream);
  if (status == kSuccess) status = launch(&scan_kernel, pass, stream, sampling);
  if (status == kSuccess) status = launch(&plan_kernel, plan, stream, sampling);
  if (!args.draws && !args.scores) return status;
  if (status == kSuccess) status = launch(&weigh_kernel, pass, stream, sampling);
  if (status == kSuccess) status = launch(&finish_kernel, finish, stream, sampling);
  return status;
}

}  // namespace sluice::kernels::cuda
