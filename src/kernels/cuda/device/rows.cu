#include "kernels/cuda/device/intrinsics.cuh"
#include "kernels/cuda/device/kernels.h"
#include "kernels/cuda/device/vectors.cuh"
#include "kernels/cuda/layout.h"

// Operators that move rows or work on each number by itself. One block or more per row.
namespace sluice::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kMaxBlocksOfRow = 65535;  // gridDim.y

// A block per row, and as many as give each thread one of `count` pieces.
Grid grid_of_rows(int64_t num_rows, int64_t count) {
  const int64_t blocks = divide_up(count, kThreads);
  const int64_t limited = blocks < kMaxBlocksOfRow ? blocks : kMaxBlocksOfRow;
  return {dim3(static_cast<unsigned>(num_rows), static_cast<unsigned>(limited)), kThreads, 0};
}

__device__ inline int64_t first_piece() {
  return static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
}
__device__ inline int64_t piece_step() {
  return static_cast<int64_t>(gridDim.y) * kThreads;
}

// output[r] = num_bytes of x[indices[r]] from first_byte on; in Units, which divide every size.
struct CopyRows {
  const unsigned char* x = nullptr;
  const int32_t* indices = nullptr;  // null: x[r]
  int64_t num_source_rows = 0;       // with indices
  int64_t row_bytes = 0;
  int64_t first_byte = 0;
  int64_t num_bytes = 0;
  int64_t output_row_bytes = 0;
  unsigned char* output = nullptr;
};

template <typename Unit>
__global__ void copy_rows_kernel(const Awaited<CopyRows> given) {
  const CopyRows& args = given.wait();
  const int64_t row = blockIdx.x;
  const int64_t source = args.indices == nullptr ? row : args.indices[row];
  const auto* from =
      reinterpret_cast<const Unit*>(args.x + source * args.row_bytes + args.first_byte);
  auto* to = reinterpret_cast<Unit*>(args.output + row * args.output_row_bytes);
  const int64_t count = args.num_bytes / static_cast<int64_t>(sizeof(Unit));
  const bool is_known = args.indices == nullptr || (source >= 0 && source < args.num_source_rows);
  for (int64_t i = first_piece(); i < count; i += piece_step()) {
    if (is_known) {
      to[i] = from[i];
    } else {
      memset(&to[i], 0xff, sizeof(Unit));  // kNoNumbers
    }
  }
}

template <typename Unit>
Status launch_copy(const CopyRows& args, int64_t num_rows, Stream stream) {
  const int64_t count = args.num_bytes / static_cast<int64_t>(sizeof(Unit));
  return launch(&copy_rows_kernel<Unit>, grid_of_rows(num_rows, count), stream, args);
}

Status copy_rows(const CopyRows& args, int64_t num_rows, Stream stream) {
  const uint64_t all = reinterpret_cast<uintptr_t>(args.x) |
                       reinterpret_cast<uintptr_t>(args.output) |
                       static_cast<uint64_t>(args.row_bytes | args.first_byte | args.num_bytes |
                                             args.output_row_bytes);
  if (all % 16 == 0) return launch_copy<uint4>(args, num_rows, stream);
  if (all % 4 == 0) return launch_copy<uint32_t>(args, num_rows, stream);
  if (all % 2 == 0) return launch_copy<uint16_t>(args, num_rows, stream);
  return launch_copy<unsigned char>(args, num_rows, stream);
}

// NaNs of any type. What a row has whose index is out of range: the host cannot look at what a step
// has on the device, and a request with a NaN ends without harm to others.
constexpr uint32_t kNoNumbers = 0xffffffff;

// A row's numbers out of 16-bit tiles, 8 of K at a time: what one lane's quarter has of a pair.
template <bool kHasVectors>
__global__ void embed_tiles_kernel(const Awaited<const uint16_t*> given_tiles, int64_t rows,
                                   int64_t columns, const Awaited<const int32_t*> tokens,
                                   const Awaited<uint16_t*> output) {
  const uint16_t* tiles = given_tiles.wait();
  const int64_t row = tokens.wait()[blockIdx.x];
  const bool is_known = row >= 0 && row < rows;
  uint16_t* to = output.wait() + blockIdx.x * columns;
  const int64_t count = divide_up(columns, 8);
  for (int64_t i = first_piece(); i < count; i += piece_step()) {
    const int64_t k = i * 8;
    // Two numbers beside each other in K are so in the tile.
    uint32_t pairs[4];
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      pairs[p] = kNoNumbers;
      if (!is_known) continue;
      pairs[p] =
          *reinterpret_cast<const uint32_t*>(tiles + number_offset(row, k + 2 * p, columns, 16));
    }
    if constexpr (kHasVectors) {
      store_16_bytes(to + k, make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]));
    } else {
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        if (k + n >= columns) break;
        to[k + n] = static_cast<uint16_t>(pairs[n / 2] >> n % 2 * 16);
      }
    }
  }
}

Status embed_tiles(const EmbedArgs& args, Stream stream) {
  const auto* tiles = static_cast<const uint16_t*>(args.weight.tiles);
  const int64_t columns = args.weight.columns;
  const Grid grid = grid_of_rows(args.num_tokens, divide_up(columns, 8));
  const bool has_vectors = columns % 8 == 0 && is_multiple_of_16(args.output);
  return launch(has_vectors ? &embed_tiles_kernel<true> : &embed_tiles_kernel<false>, grid, stream,
                tiles, args.weight.rows, columns, args.tokens, static_cast<uint16_t*>(args.output));
}

// The number that a quantized weight has at [row, k], without its row's scale.
__device__ inline float value_at(const Weight& weight, int64_t row, int64_t k) {
  const auto* tiles = static_cast<const uint8_t*>(weight.tiles);
  if (weight.format != WeightFormat::kInt4) {
    const uint8_t byte = tiles[weight.is_wide ? wide_offset(row, k, weight.columns)
                                              : number_offset(row, k, weight.columns, 8)];
    return weight.format == WeightFormat::kFloat8 ? from_float8({byte}) : static_cast<int8_t>(byte);
  }
  const int64_t pair = row / kTileRows * num_pairs(weight.columns, 8) + k / 64;
  const int64_t lane = row % 8 * 4 + k % 64 / 16;
  const int byte = tiles[(pair * 32 + lane) * 16 + k % 16];
  const int code = row % kTileRows < 8 ? byte & 15 : byte >> 4;
  const int64_t groups = num_groups(weight.columns, weight.group_size);
  return static_cast<float>(
      (code - 8) * weight.multipliers[multiplier_offset(row, k / weight.group_size, groups)]);
}

template <typename T>
__global__ void embed_quantized_kernel(Weight weight, const int32_t* tokens, T* output) {
  const int64_t row = tokens[blockIdx.x];
  const bool is_known = row >= 0 && row < weight.rows;
  T* to = output + blockIdx.x * weight.columns;
  for (int64_t k = first_piece(); k < weight.columns; k += piece_step()) {
    const float value = is_known ? value_at(weight, row, k) * weight.scales[row] : NAN;
    to[k] = from_float<T>(value);
  }
}

template <typename T>
Status embed_quantized(const EmbedArgs& args, Stream stream) {
  return launch(embed_quantized_kernel<T>, grid_of_rows(args.num_tokens, args.weight.columns),
                stream, args.weight, args.tokens, static_cast<T*>(args.output));
}

__device__ inline float gated(float gate, float up) {
  return gate / (1.0f + expf(-gate)) * up;
}

// Of one row in turn: whole vectors where it has them, else single numbers.
template <typename T, bool kHasVectors>
__global__ void swiglu_kernel(const Awaited<const T*> x, int64_t size, const Awaited<T*> output) {
  constexpr int kStep = kHasVectors ? Vector<T>::kSize : 1;
  const T* gate = x.wait() + blockIdx.x * 2 * size;
  const T* up = gate + size;
  T* to = output.wait() + blockIdx.x * size;
  for (int64_t i = first_piece() * kStep; i < size; i += piece_step() * kStep) {
    if constexpr (kHasVectors) {
      const Vector<T> gates = load_vector(gate + i);
      const Vector<T> ups = load_vector(up + i);
      Vector<T> result;
      for (int n = 0; n < kStep; ++n) {
        result.of[n] = from_float<T>(gated(to_float(gates.of[n]), to_float(ups.of[n])));
      }
      store_vector(to + i, result);
    } else {
      to[i] = from_float<T>(gated(to_float(gate[i]), to_float(up[i])));
    }
  }
}

template <typename T>
Status launch_swiglu(const SwigluArgs& args, Stream stream) {
  const auto* x = static_cast<const T*>(args.x);
  auto* output = static_cast<T*>(args.output);
  const bool has_vectors =
      args.size % Vector<T>::kSize == 0 && is_multiple_of_16(x) && is_multiple_of_16(output);
  const int64_t count = has_vectors ? args.size / Vector<T>::kSize : args.size;
  return launch(has_vectors ? &swiglu_kernel<T, true> : &swiglu_kernel<T, false>,
                grid_of_rows(args.num_rows, count), stream, x, args.size, output);
}

template <typename T>
__global__ void add_kernel(const Awaited<const T*> x, const Awaited<const T*> y,
                           const Awaited<T*> output, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  output.wait()[i] = from_float<T>(to_float(x.wait()[i]) + to_float(y.wait()[i]));
}

}  // namespace

Status add(const AddArgs& args, Stream stream) {
  const Grid grid{dim3(static_cast<unsigned>(divide_up(args.count, kThreads))), kThreads, 0};
  return with_type(args.type, [&]<typename T>() {
    return launch(&add_kernel<T>, grid, stream, static_cast<const T*>(args.x),
                  static_cast<const T*>(args.y), static_cast<T*>(args.output), args.count);
  });
}

Status embed(const EmbedArgs& args, Stream stream) {
  if (args.weight.format != WeightFormat::kPlain) {
    return with_type(args.weight.type,
                     [&]<typename T>() { return embed_quantized<T>(args, stream); });
  }
  if (args.weight.type != DType::kF32) return embed_tiles(args, stream);
  const int64_t row_bytes = args.weight.columns * size_of(DType::kF32);
  return select_rows({.x = args.weight.tiles,
                      .num_source_rows = args.weight.rows,
                      .indices = args.tokens,
                      .num_rows = args.num_tokens,
                      .row_bytes = row_bytes,
                      .output = args.output},
                     stream);
}

Status select_rows(const SelectRowsArgs& args, Stream stream) {
  return copy_rows({.x = static_cast<const unsigned char*>(args.x),
                    .indices = args.indices,
                    .num_source_rows = args.num_source_rows,
                    .row_bytes = args.row_bytes,
                    .num_bytes = args.row_bytes,
                    .output_row_bytes = args.row_bytes,
                    .output = static_cast<unsigned char*>(args.output)},
                   args.num_rows, stream);
}

Status copy_columns(const CopyColumnsArgs& args, Stream stream) {
  return copy_rows({.x = static_cast<const unsigned char*>(args.x),
                    .row_bytes = args.row_bytes,
                    .first_byte = args.first_byte,
                    .num_bytes = args.num_bytes,
                    .output_row_bytes = args.row_bytes,
                    .output = static_cast<unsigned char*>(args.output) + args.first_byte},
                   args.num_rows, stream);
}

Status swiglu(const SwigluArgs& args, Stream stream) {
  return with_type(args.type, [&]<typename T>() { return launch_swiglu<T>(args, stream); });
}

}  // namespace sluice::kernels::cuda
