#pragma once

#include "kernels/cuda/device/linear_parts.cuh"

// `linear` for many rows, where the matrix units are the limit: a block multiplies kN rows of the
// weight with kM rows of x, both on their way through its memory while it multiplies those before.
namespace sluice::kernels::cuda {

inline constexpr int kManyWarps = 8;
inline constexpr int kManyThreads = kManyWarps * kWarpThreads;
inline constexpr int kStagePairs = 2;  // of K, in a stage
// A block's stages, of the 99 KiB that every device lets it have. A small block that has its
// multiprocessor to itself has as much on its way as a large one; of more, two find room in any.
inline constexpr int kAllStageBytes = 96 * 1024;
inline constexpr int kHalfStageBytes = 48 * 1024;

// Four warps side by side over the weight's rows, two over x's; kRowTiles and kTokenTiles: of a
// warp.
template <typename Pairs, int kRowTiles, int kTokenTiles, int kMostStageBytes>
struct ManyShape {
  static constexpr int kTilesBytes = Pairs::kBytes;  // of a pair and 16 rows
  static constexpr int kN = 4 * kRowTiles * static_cast<int>(kTileRows);
  static constexpr int kM = 2 * kTokenTiles * 8;
  static constexpr int kWeightBytes = 4 * kRowTiles * kTilesBytes;  // of a pair
  static constexpr int kPairMemory = kWeightBytes + kM * static_cast<int>(kRowPairBytes);
  static constexpr int kStageMemory = kStagePairs * kPairMemory;
  static constexpr int kStages = kMostStageBytes / kStageMemory;
  static constexpr int kSumPitch = kN + 4;  // no two of a fragment's sums in one bank
  static constexpr size_t kStageBytes = size_t{kStages} * kStageMemory;
  static constexpr size_t kSumBytes = size_t{kM} * kSumPitch * 4;
  static constexpr size_t kMemoryBytes = kStageBytes > kSumBytes ? kStageBytes : kSumBytes;
};

// Starts the copies of a stage. Past K's end nothing comes, and nothing is read.
template <typename Shape>
__device__ inline void copy_stage(const Product& product, unsigned char* memory, int first_pair) {
  const int thread = static_cast<int>(threadIdx.x);
  const int first_tile = static_cast<int>(blockIdx.y) * (Shape::kN / static_cast<int>(kTileRows));
  const int num_tiles =
      (product.num_columns + static_cast<int>(kTileRows) - 1) / static_cast<int>(kTileRows);
  const int first_row = static_cast<int>(blockIdx.x) * Shape::kM;
#pragma unroll
  for (int p = 0; p < kStagePairs; ++p, memory += Shape::kPairMemory) {
    const int pair = first_pair + p;
    if (pair >= product.num_pairs) break;
    constexpr int kPairChunks = Shape::kTilesBytes / 16;
    for (int chunk = thread; chunk < Shape::kWeightBytes / 16; chunk += kManyThreads) {
      const int tile = first_tile + chunk / kPairChunks;
      const bool is_valid = tile < num_tiles;
      const unsigned char* from =
          product.tiles +
          (is_valid ? (static_cast<int64_t>(tile) * product.num_pairs + pair) * Shape::kTilesBytes +
                          chunk % kPairChunks * 16
                    : 0);
      copy_16_bytes(memory + chunk * 16, from, is_valid);
    }
    for (int chunk = thread; chunk < Shape::kM * 4; chunk += kManyThreads) {
      const int row = first_row + chunk / 4;
      const int64_t byte = pair * kRowPairBytes + chunk % 4 * 16;
      const bool is_valid = row < product.num_rows && byte < product.row_bytes;
      const unsigned char* from = product.x + (is_valid ? row * product.row_bytes + byte : 0);
      copy_16_bytes(memory + Shape::kWeightBytes + chunk * 16, from, is_valid);
    }
  }
  commit_copies();
}

// sum += the warp's part of a pair.
template <typename T, typename Pairs, int kRowTiles, int kTokenTiles>
__device__ inline void multiply_pair(typename Math<T>::Sum (&sum)[kRowTiles][kTokenTiles][4],
                                     const unsigned char* weights, const unsigned char* x) {
  uint4 w[kRowTiles][2];
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    typename Pairs::Raw raw;
    Pairs::read(raw, weights + r * Pairs::kBytes);
    Pairs::expand(raw, w[r]);
  }
#pragma unroll
  for (int t = 0; t < kTokenTiles; ++t) {
    const uint4 words = *reinterpret_cast<const uint4*>(x + t * 8 * kRowPairBytes);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      Math<T>::multiply(sum[r][t], w[r][0], make_uint2(words.x, words.y));
      Math<T>::multiply(sum[r][t], w[r][1], make_uint2(words.z, words.w));
    }
  }
}

// total += sum, sum = 0
template <typename Sum, int kRowTiles, int kTokenTiles>
__device__ inline void fold(Sum (&total)[kRowTiles][kTokenTiles][4],
                            Sum (&sum)[kRowTiles][kTokenTiles][4]) {
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int t = 0; t < kTokenTiles; ++t) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        total[r][t][i] += sum[r][t][i];
        sum[r][t][i] = 0;
      }
    }
  }
}

// A warp's totals to the block's memory, [kM][kSumPitch]; `at`: the lane's first.
template <typename Shape, typename Sum, int kRowTiles, int kTokenTiles>
__device__ inline void keep_sums(const Sum (&total)[kRowTiles][kTokenTiles][4], Sum* at) {
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int t = 0; t < kTokenTiles; ++t) {
      Sum* to = at + t * 8 * Shape::kSumPitch + r * kTileRows;
      to[0] = total[r][t][0];
      to[Shape::kSumPitch] = total[r][t][1];
      to[8] = total[r][t][2];
      to[Shape::kSumPitch + 8] = total[r][t][3];
    }
  }
}

// What follows the sums, a row of x after the other, so that lines of the output are written whole.
template <typename Shape, typename Sum>
__device__ inline void finish_sums(const Product& product, const Finish& to, const Sum* sums) {
  const int first_row = static_cast<int>(blockIdx.x) * Shape::kM;
  const int first_column = static_cast<int>(blockIdx.y) * Shape::kN;
  const int num_rows = min(product.num_rows - first_row, Shape::kM);
  const int num_columns = min(product.num_columns - first_column, Shape::kN);
  const int thread = static_cast<int>(threadIdx.x);
  if (!has_eights(to, product)) {
    for (int i = thread; i < num_rows * Shape::kN; i += kManyThreads) {
      const int column = i % Shape::kN;
      if (column >= num_columns) continue;
      finish(to, product, first_row + i / Shape::kN, first_column + column,
             sums[i / Shape::kN * Shape::kSumPitch + column]);
    }
    return;
  }
  constexpr int kEights = Shape::kN / 8;
  for (int i = thread; i < num_rows * kEights; i += kManyThreads) {
    const int column = i % kEights * 8;
    if (column >= num_columns) continue;
    struct alignas(16) Eight {
      Sum of[8];
    };
    const auto eight =
        *reinterpret_cast<const Eight*>(sums + i / kEights * Shape::kSumPitch + column);
    finish_eight(to, product, first_row + i / kEights, first_column + column, eight.of);
  }
}

// Grid: tiles of kM tokens x tiles of kN weight rows, so that blocks side by side share a weight.
template <typename T, typename Pairs, int kRowTiles, int kTokenTiles, int kMostStageBytes>
__global__ void __launch_bounds__(kManyThreads)
    multiply_many(const Awaited<Product> given, const Awaited<Finish> to) {
  const Product& product = given.wait();
  using Shape = ManyShape<Pairs, kRowTiles, kTokenTiles, kMostStageBytes>;
  using Sum = typename Math<T>::Sum;
  constexpr int kStages = Shape::kStages;
  constexpr int kStageMemory = Shape::kStageMemory;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int tile = warp % 4 * kRowTiles;         // of the block's weight rows
  const int token = warp / 4 * kTokenTiles * 8;  // of the block's rows of x
  const int depth = segment_pairs(product.num_pairs);
  Sum total[kRowTiles][kTokenTiles][4] = {};
  Sum sum[kRowTiles][kTokenTiles][4] = {};
  unsigned char* memory = block_memory();
  for (int s = 0; s < kStages - 1; ++s) {
    copy_stage<Shape>(product, memory + s * kStageMemory, s * kStagePairs);
  }
  int stage = 0;
  int left_in_segment = depth;
  for (int pair = 0; pair < product.num_pairs; pair += kStagePairs) {
    wait_for_copies<kStages - 2>();
    block_barrier();  // the stage is whole, and the one before it is read
    const int next = stage == 0 ? kStages - 1 : stage - 1;
    copy_stage<Shape>(product, memory + next * kStageMemory, pair + (kStages - 1) * kStagePairs);
    const unsigned char* from = memory + stage * kStageMemory;
#pragma unroll
    for (int p = 0; p < kStagePairs; ++p, from += Shape::kPairMemory) {
      if (pair + p >= product.num_pairs) break;
      multiply_pair<T, Pairs, kRowTiles, kTokenTiles>(
          sum, from + tile * Pairs::kBytes + lane * 16,
          from + Shape::kWeightBytes + (token + lane / 4) * kRowPairBytes + lane % 4 * 16);
      if (kFixedOrder && --left_in_segment == 0) {
        fold(total, sum);
        left_in_segment = depth;
      }
    }
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }
  wait_for_copies<0>();
  if (!kFixedOrder || left_in_segment < depth) fold(total, sum);
  block_barrier();  // the last stage is read: the memory is free for the sums
  auto* sums = reinterpret_cast<Sum*>(memory);
  keep_sums<Shape>(total,
                   sums + (token + lane % 4 * 2) * Shape::kSumPitch + tile * kTileRows + lane / 4);
  block_barrier();
  finish_sums<Shape>(product, to.wait(), sums);
}

}  // namespace sluice::kernels::cuda
