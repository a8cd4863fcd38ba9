#include "kernels/cuda/device/intrinsics.cuh"
#include "kernels/cuda/device/kernels.h"
#include "kernels/cuda/device/vectors.cuh"
#include "kernels/cuda/layout.h"

// rms_norm and layer_norm, of rows or of a row's heads.
//
// Row law: which threads share a row, and which numbers each takes, follows from `size` and the
// type alone. Thread t takes vectors t, t + threads, ... of 16 bytes, in turn; lanes are summed by
// halves and warps in their order. Rows that are not aligned are read number by number into the
// same vectors, so their sums have the same bits.
//
// The output may be where x is: a thread writes only what it alone reads.
namespace sluice::kernels::cuda {
namespace {

constexpr int kWarpsOfBlock = 4;  // where a warp has a row
constexpr int kMostThreads = 1024;

// A row for one warp, or for a block of more.
int threads_of_row(int64_t size) {
  if (size <= 1024) return kWarpThreads;
  if (size <= 4096) return 256;
  return size <= 16384 ? 512 : kMostThreads;
}

// Which of a row's vectors a thread takes, and with whom it sums.
struct Share {
  int64_t first;
  int64_t step;
  int num_warps;
};

// The sum over all threads of the row, of the same bits in each. `memory` is num_warps floats that
// no thread still reads.
__device__ inline float sum_of_row(float own, const Share& share, float* memory) {
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) own += warp_shuffle_xor(own, mask);
  if (share.num_warps == 1) return own;
  if (threadIdx.x % kWarpThreads == 0) memory[threadIdx.x / kWarpThreads] = own;
  block_barrier();
  float sum = memory[0];
  for (int warp = 1; warp < share.num_warps; ++warp) sum += memory[warp];
  return sum;
}

// The sum of step(sum, number) over the numbers of a row.
template <typename T, bool kIsAligned, typename Step>
__device__ inline float sum_over(const T* row, int64_t size, const Share& share, float* memory,
                                 Step step) {
  float own = 0;
  for (int64_t first = share.first; first < size; first += share.step) {
    const Vector<T> vector = load_part<T, kIsAligned>(row, first, size);
    for (int n = 0; n < Vector<T>::kSize; ++n) {
      if (first + n < size) own = step(own, to_float(vector.of[n]));
    }
  }
  return sum_of_row(own, share, memory);
}

// (x - mean) * scale * weight + bias; rms_norm has neither mean nor bias.
template <typename T, bool kIsAligned, bool kIsLayerNorm>
__device__ inline void write_row(const NormArgs& args, const T* row, T* output, const Share& share,
                                 float mean, float scale) {
  const auto* weight = static_cast<const T*>(args.weight);
  const auto* bias = static_cast<const T*>(args.bias);
  for (int64_t first = share.first; first < args.size; first += share.step) {
    const Vector<T> values = load_part<T, kIsAligned>(row, first, args.size);
    const Vector<T> weights = load_part<T, kIsAligned>(weight, first, args.size);
    Vector<T> biases{};
    if constexpr (kIsLayerNorm) biases = load_part<T, kIsAligned>(bias, first, args.size);
    Vector<T> results;
    for (int n = 0; n < Vector<T>::kSize; ++n) {
      const float value = to_float(values.of[n]);
      const float by = to_float(weights.of[n]);
      const float result = kIsLayerNorm ? fmaf((value - mean) * scale, by, to_float(biases.of[n]))
                                        : value * scale * by;
      results.of[n] = from_float<T>(result);
    }
    store_part<T, kIsAligned>(output, first, args.size, results);
  }
}

// `threads` of the block have a row; with one warp a row, a block has several.
template <typename T, bool kIsAligned, bool kIsLayerNorm>
__global__ void __launch_bounds__(kMostThreads)
    norm_kernel(const Awaited<NormArgs> given, int threads) {
  const NormArgs& args = given.wait();
  const int64_t rows_of_block = blockDim.x / threads;
  const int64_t index = blockIdx.x * rows_of_block + threadIdx.x / threads;
  if (index >= args.num_rows * args.heads) return;  // a whole warp
  const int64_t begin = index / args.heads * args.stride + index % args.heads * args.size;
  const T* row = static_cast<const T*>(args.x) + begin;
  T* output = static_cast<T*>(args.output) + begin;
  const Share share{static_cast<int64_t>(threadIdx.x) % threads * Vector<T>::kSize,
                    static_cast<int64_t>(threads) * Vector<T>::kSize, threads / kWarpThreads};
  auto* memory = reinterpret_cast<float*>(block_memory());
  const auto size = static_cast<float>(args.size);

  float mean = 0;
  if constexpr (kIsLayerNorm) {
    const auto add = [](float sum, float value) { return sum + value; };
    mean = sum_over<T, kIsAligned>(row, args.size, share, memory, add) / size;
  }
  // Around the mean, in a pass of its own: nothing cancels.
  const auto add_square = [mean](float sum, float value) {
    const float centred = kIsLayerNorm ? value - mean : value;
    return fmaf(centred, centred, sum);
  };
  const float squares =
      sum_over<T, kIsAligned>(row, args.size, share, memory + share.num_warps, add_square);
  const float scale = 1.0f / sqrtf(squares / size + args.epsilon);
  write_row<T, kIsAligned, kIsLayerNorm>(args, row, output, share, mean, scale);
}

template <typename T>
bool is_aligned(const NormArgs& args) {
  const auto bytes = [](int64_t count) { return count * static_cast<int64_t>(sizeof(T)); };
  return is_multiple_of_16(args.x) && is_multiple_of_16(args.output) &&
         is_multiple_of_16(args.weight) && is_multiple_of_16(args.bias) &&
         (args.num_rows == 1 || is_multiple_of_16(bytes(args.stride))) &&
         (args.heads == 1 || is_multiple_of_16(bytes(args.size)));
}

template <typename T, bool kIsLayerNorm>
Status launch_norm(const NormArgs& args, Stream stream) {
  const int threads = threads_of_row(args.size);
  const int num_warps = threads / kWarpThreads;
  const int rows_of_block = num_warps == 1 ? kWarpsOfBlock : 1;
  const int64_t blocks = divide_up(args.num_rows * args.heads, rows_of_block);
  // A place a warp for either sum, so that the second need not wait for the first's readers.
  const size_t memory = num_warps == 1 ? 0 : 2 * sizeof(float) * num_warps;
  const Grid grid{dim3(static_cast<unsigned>(blocks)), threads * rows_of_block, memory};
  const auto kernel = is_aligned<T>(args) ? &norm_kernel<T, true, kIsLayerNorm>
                                          : &norm_kernel<T, false, kIsLayerNorm>;
  return launch(kernel, grid, stream, args, threads);
}

}  // namespace

Status rms_norm(const NormArgs& args, Stream stream) {
  return with_type(args.type, [&]<typename T>() { return launch_norm<T, false>(args, stream); });
}

Status layer_norm(const NormArgs& args, Stream stream) {
  return with_type(args.type, [&]<typename T>() { return launch_norm<T, true>(args, stream); });
}

}  // namespace sluice::kernels::cuda
