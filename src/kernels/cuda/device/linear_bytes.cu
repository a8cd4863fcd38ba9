#include "kernels/cuda/device/linear_few.cuh"
#include "kernels/cuda/device/linear_kernels.h"
#include "kernels/cuda/device/vectors.cuh"

// What products of bytes need before them: rows of x as bytes, and int4's weights for many rows.
namespace sluice::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpThreads;

// Smaller rows count as zero: the inverse of their scale is not a number.
constexpr float kSmallestRow = 1e-30f;

// The largest of the block's values, on every thread. `memory`: a float a warp.
__device__ float largest_of_block(float value, float* memory) {
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    value = fmaxf(value, warp_shuffle_xor(value, mask));
  }
  if (threadIdx.x % kWarpThreads == 0) memory[threadIdx.x / kWarpThreads] = value;
  block_barrier();
  for (int warp = 0; warp < kWarps; ++warp) value = fmaxf(value, memory[warp]);
  return value;
}

// What the numbers of a row become: the largest one, and the byte of a number of at most that.
struct Int8Codes {
  static constexpr float kLargest = 127.0f;
  static __device__ uint8_t of(float x) { return static_cast<uint8_t>(round_to_int(x)); }
};
struct Float8Codes {
  static constexpr float kLargest = kFloat8Largest;
  static __device__ uint8_t of(float x) { return nearest_float8(x).bits; }
};

// As many numbers as there are bytes in 16; zeros past the row's end.
template <typename T>
struct Sixteen {
  static constexpr int kVectors = 16 / Vector<T>::kSize;
  Vector<T> of[kVectors];

  template <bool kIsAligned>
  __device__ void load(const T* row, int64_t first, int64_t size) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      of[i] = load_part<T, kIsAligned>(row, first + i * Vector<T>::kSize, size);
    }
  }
  __device__ float number(int i) const {
    return to_float(of[i / Vector<T>::kSize].of[i % Vector<T>::kSize]);
  }
};

// A block a row, read twice; a thread has 16 numbers at a time. The largest magnitude does not
// depend on an order.
template <typename T, typename Codes, bool kIsAligned>
__global__ void __launch_bounds__(kThreads)
    quantize_row(const Awaited<const T*> all_x, int64_t columns, const Awaited<uint8_t*> all_rows,
                 int64_t row_bytes, const Awaited<float*> scales) {
  const T* x = all_x.wait() + blockIdx.x * columns;
  uint8_t* rows = all_rows.wait() + blockIdx.x * row_bytes;
  const int64_t begin = static_cast<int64_t>(threadIdx.x) * 16;
  Sixteen<T> numbers;
  float magnitude = 0.0f;
  for (int64_t k = begin; k < columns; k += kThreads * 16) {
    numbers.template load<kIsAligned>(x, k, columns);
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const float value = fabsf(numbers.number(i));
      // A NaN counts as more than anything, which fmaxf() would not do.
      magnitude = fmaxf(magnitude, value == value ? value : INFINITY);
    }
  }
  magnitude = largest_of_block(magnitude, reinterpret_cast<float*>(block_memory()));
  const bool is_zero = magnitude < kSmallestRow;
  const bool is_finite = magnitude < INFINITY;
  const float inverse = is_zero || !is_finite ? 0.0f : Codes::kLargest / magnitude;
  for (int64_t k = begin; k < row_bytes; k += kThreads * 16) {
    numbers.template load<kIsAligned>(x, k, columns);
    uint32_t words[4] = {};
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const float value = is_finite ? numbers.number(i) * inverse : 0.0f;
      words[i / 4] |= uint32_t{Codes::of(value)} << i % 4 * 8;
    }
    store_16_bytes(rows + k, make_uint4(words[0], words[1], words[2], words[3]));
  }
  if (threadIdx.x != 0) return;
  scales.wait()[blockIdx.x] = is_zero ? 0.0f : is_finite ? magnitude / Codes::kLargest : NAN;
}

template <typename T, typename Codes>
Status quantize(const LinearArgs& args, uint8_t* rows, int64_t row_bytes, float* scales,
                Stream stream) {
  Grid grid;
  grid.blocks = dim3(static_cast<unsigned>(args.num_rows));
  grid.threads = kThreads;
  grid.block_memory_bytes = kWarps * sizeof(float);
  const bool is_aligned = is_multiple_of_16(args.x) &&
                          is_multiple_of_16(args.weight.columns * static_cast<int64_t>(sizeof(T)));
  const auto kernel = is_aligned ? &quantize_row<T, Codes, true> : &quantize_row<T, Codes, false>;
  return launch(kernel, grid, stream, static_cast<const T*>(args.x), args.weight.columns, rows,
                row_bytes, scales);
}

// A warp a pair of tiles.
__global__ void __launch_bounds__(kThreads) expand_pairs(Product product, uint4* tiles) {
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int64_t row_of_tiles = warp / product.num_pairs;
  if (row_of_tiles * kTileRows >= product.num_columns) return;
  const auto pair = static_cast<int>(warp % product.num_pairs);
  CodePairs::Raw raw;
  CodePairs::load(raw, product, row_of_tiles, pair);
  uint4 words[2];
  CodePairs::expand(raw, words);
  tiles[warp * 64 + lane] = words[0];
  tiles[warp * 64 + 32 + lane] = words[1];
}

}  // namespace

Status quantize_rows(const LinearArgs& args, uint8_t* rows, int64_t row_bytes, float* scales,
                     Stream stream) {
  return with_type(args.weight.type, [&]<typename T>() {
    return args.weight.format == WeightFormat::kFloat8
               ? quantize<T, Float8Codes>(args, rows, row_bytes, scales, stream)
               : quantize<T, Int8Codes>(args, rows, row_bytes, scales, stream);
  });
}

Status expand_codes(const Weight& weight, void* tiles, Stream stream) {
  const Product product = product_of(weight);
  const int64_t num_pairs_in_all = divide_up(weight.rows, kTileRows) * product.num_pairs;
  Grid grid;
  grid.blocks = dim3(static_cast<unsigned>(divide_up(num_pairs_in_all, kWarps)));
  grid.threads = kThreads;
  return launch(expand_pairs, grid, stream, product, static_cast<uint4*>(tiles));
}

}  // namespace sluice::kernels::cuda
