#pragma once

#include "kernels/cuda/device/linear_parts.cuh"

// `linear` for few rows, where reading the weight is all the work: a block multiplies 16 rows of
// the weight with up to 64 rows of x. Each of its warps takes a segment of K at a time, straight
// from device memory into registers; the segments' sums meet in the block's memory.
namespace sluice::kernels::cuda {

inline constexpr int kFewWarps = 8;
inline constexpr int kFewThreads = kFewWarps * kWarpThreads;
// Sums of 16 x 8 products in the block's memory lie by columns, so far apart that neither writing
// fragments nor reading columns meets a bank twice.
inline constexpr int kSumPitch = 20;
inline constexpr int kTokenTileSums = 8 * kSumPitch;

template <int kTokenTiles>
constexpr size_t few_memory_bytes() {
  return sizeof(float) * kFewWarps * kTokenTiles * kTokenTileSums;
}

// int4's codes, as PlainPairs and WidePairs.
struct CodePairs {
  static constexpr int kBatch = 4;
  static constexpr int kBytes = static_cast<int>(kPairBytes) / 2;
  struct Raw {
    uint4 codes;
    uint32_t multipliers[2];  // of the lane's two rows
  };
  static __device__ void load(Raw& raw, const Product& product, int64_t row_of_tiles, int pair) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
    raw.codes =
        load_once(product.tiles + (row_of_tiles * product.num_pairs + pair) * kBytes + lane * 16);
    const uint8_t* multipliers =
        product.multipliers +
        (row_of_tiles * product.num_groups + group_of(product, pair, lane % 4)) * kTileRows +
        lane / 4;
    raw.multipliers[0] = multipliers[0];
    raw.multipliers[1] = multipliers[8];
  }
  static __device__ void expand(const Raw& raw, uint4 (&tiles)[2]) {
    const uint32_t codes[4] = {raw.codes.x, raw.codes.y, raw.codes.z, raw.codes.w};
    uint32_t words[8];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      words[2 * i] = code_values(codes[i], raw.multipliers[0]);
      words[2 * i + 1] = code_values(codes[i] >> 4, raw.multipliers[1]);
    }
    tiles[0] = make_uint4(words[0], words[1], words[2], words[3]);
    tiles[1] = make_uint4(words[4], words[5], words[6], words[7]);
  }
};

template <typename Pairs>
__device__ inline void load_pairs(typename Pairs::Raw (&raw)[Pairs::kBatch], const Product& product,
                                  int64_t row_of_tiles, int pair, int end_pair) {
#pragma unroll
  for (int i = 0; i < Pairs::kBatch; ++i) {
    if (pair + i >= end_pair) break;
    Pairs::load(raw[i], product, row_of_tiles, pair + i);
  }
}

// sum += x of the tokens from `first_row` on times the weight's pairs [pair, end_pair).
template <typename T, typename Pairs, int kTokenTiles, bool kAligned>
__device__ inline void multiply_segment(typename Math<T>::Sum (&sum)[kTokenTiles][4],
                                        const Product& product, int first_row, int pair,
                                        int end_pair) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int row = first_row + lane / 4;
  typename Pairs::Raw next[Pairs::kBatch];
  load_pairs<Pairs>(next, product, blockIdx.x, pair, end_pair);
  for (; pair < end_pair; pair += Pairs::kBatch) {
    typename Pairs::Raw raw[Pairs::kBatch];
#pragma unroll
    for (int i = 0; i < Pairs::kBatch; ++i) raw[i] = next[i];
    load_pairs<Pairs>(next, product, blockIdx.x, pair + Pairs::kBatch, end_pair);
#pragma unroll
    for (int i = 0; i < Pairs::kBatch; ++i) {
      if (pair + i >= end_pair) break;
      uint4 weights[2];
      Pairs::expand(raw[i], weights);
      const int64_t byte = (pair + i) * kRowPairBytes + lane % 4 * 16;
#pragma unroll
      for (int tile = 0; tile < kTokenTiles; ++tile) {
        const uint4 x = load_x<kAligned>(product, row + tile * 8, byte);
        Math<T>::multiply(sum[tile], weights[0], make_uint2(x.x, x.y));
        Math<T>::multiply(sum[tile], weights[1], make_uint2(x.z, x.w));
      }
    }
  }
}

// Grid: rows of tiles x tiles of 8 kTokenTiles tokens.
template <typename T, typename Pairs, int kTokenTiles, bool kAligned>
__global__ void __launch_bounds__(kFewThreads) multiply_few(Product product, Finish to) {
  using Sum = typename Math<T>::Sum;
  constexpr int kOutputs = kTokenTiles * 8 * static_cast<int>(kTileRows);
  constexpr int kOwn = (kOutputs + kFewThreads - 1) / kFewThreads;
  auto* sums = reinterpret_cast<Sum*>(block_memory());
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarpThreads;
  const int warp = thread / kWarpThreads;
  const int first_row = static_cast<int>(blockIdx.y) * kTokenTiles * 8;
  const int depth = segment_pairs(product.num_pairs);
  const int num_segments = (product.num_pairs + depth - 1) / depth;
  Sum total[kOwn] = {};
  for (int round = 0; round < num_segments; round += kFewWarps) {
    const int segment = round + warp;
    if (segment < num_segments) {
      Sum sum[kTokenTiles][4] = {};
      const int begin = segment * depth;
      const int end = begin + depth < product.num_pairs ? begin + depth : product.num_pairs;
      multiply_segment<T, Pairs, kTokenTiles, kAligned>(sum, product, first_row, begin, end);
#pragma unroll
      for (int tile = 0; tile < kTokenTiles; ++tile) {
        Sum* at = sums + (warp * kTokenTiles + tile) * kTokenTileSums + lane % 4 * 2 * kSumPitch +
                  lane / 4;
        at[0] = sum[tile][0];
        at[kSumPitch] = sum[tile][1];
        at[8] = sum[tile][2];
        at[kSumPitch + 8] = sum[tile][3];
      }
    }
    block_barrier();
    const int num_parts = num_segments - round < kFewWarps ? num_segments - round : kFewWarps;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int output = thread + i * kFewThreads;
      if (output >= kOutputs) break;
      const Sum* part =
          sums + output / 128 * kTokenTileSums + output % 128 / 16 * kSumPitch + output % 16;
      for (int p = 0; p < num_parts; ++p) total[i] += part[p * kTokenTiles * kTokenTileSums];
    }
    block_barrier();
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int output = thread + i * kFewThreads;
    const int row = first_row + output / 16;
    const int column = static_cast<int>(blockIdx.x) * static_cast<int>(kTileRows) + output % 16;
    if (output >= kOutputs || row >= product.num_rows || column >= product.num_columns) continue;
    finish(to, product, row, column, total[i]);
  }
}

}  // namespace sluice::kernels::cuda
