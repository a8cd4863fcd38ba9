#pragma once

#include "kernels/cuda/device/linear_parts.cuh"

// `linear` for few rows, where reading the weight is all the work: a block multiplies 16 kRowTiles
// rows of the weight with up to 64 rows of x. Each of its warps takes a segment of K at a time,
// straight from memory into registers; the segments' sums meet in the block's memory.
//
// Every block reads all of x, from the second cache: for 32 rows of bfloat16 as many bytes as 32
// rows of the weight are. So the more tokens there are, the more row tiles a block should have, as
// long as there are blocks for all multiprocessors (linear_few_run.cuh).
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
  static constexpr int kBatch = 8;
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

// Pairs of K, [begin, end).
struct PairSpan {
  int begin;
  int end;
};

// The pairs of a warp's segment; without the fixed order all warps have one, of the same length.
__host__ __device__ constexpr int few_segment_pairs(int num_pairs) {
  return kFixedOrder ? segment_pairs(num_pairs) : (num_pairs + kFewWarps - 1) / kFewWarps;
}

// The pairs of a segment; none past the last one.
__device__ inline PairSpan pairs_of(const Product& product, int segment) {
  const int depth = few_segment_pairs(product.num_pairs);
  return {min(segment * depth, product.num_pairs), min((segment + 1) * depth, product.num_pairs)};
}

// Pairs of K that a warp has on their way, of kRowTiles rows of tiles: 4 KiB for any number of
// these. But not one pair alone, where registers suffice: nothing would be on its way during its
// products.
template <typename T, typename Pairs, int kTokenTiles, int kRowTiles>
constexpr int batch_pairs() {
  constexpr int kPairs = Pairs::kBatch / kRowTiles;
  constexpr bool kHasRegisters = kTokenTiles <= 4 && !__is_same(T, Float8);
  return kPairs == 1 && kHasRegisters ? 2 : kPairs;
}

// Pair `index` of those from span's first on; nothing past its end. Rows of tiles past the last are
// the last one again, and nobody looks at their products.
template <typename Pairs, int kRowTiles>
__device__ inline void load_pair(typename Pairs::Raw (&raw)[kRowTiles], const Product& product,
                                 const PairSpan& span, int index) {
  if (span.begin + index >= span.end) return;
  const int last_tile = (product.num_columns - 1) / static_cast<int>(kTileRows);
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    const int tile = static_cast<int>(blockIdx.x) * kRowTiles + r;
    Pairs::load(raw[r], product, min(tile, last_tile), span.begin + index);
  }
}

// sum += x times the weight's pair; x of the token tiles from `first` on.
template <typename T, typename Pairs, int kXTiles, int kTokenTiles, int kRowTiles>
__device__ inline void multiply_pair(typename Math<T>::Sum (&sum)[kRowTiles][kTokenTiles][4],
                                     const typename Pairs::Raw (&raw)[kRowTiles],
                                     const uint4 (&x)[kXTiles], int first) {
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    uint4 weights[2];
    Pairs::expand(raw[r], weights);
#pragma unroll
    for (int t = 0; t < kXTiles; ++t) {
      Math<T>::multiply(sum[r][first + t], weights[0], make_uint2(x[t].x, x[t].y));
      Math<T>::multiply(sum[r][first + t], weights[1], make_uint2(x[t].z, x[t].w));
    }
  }
}

// sum += x of the tokens from `first_row` on times the weight's pairs of `span`, whose first ones
// are in `batch`; the first ones of `next` are on their way then.
template <typename T, typename Pairs, int kTokenTiles, int kRowTiles, bool kAligned, int kPairs>
__device__ inline void multiply_segment(typename Math<T>::Sum (&sum)[kRowTiles][kTokenTiles][4],
                                        typename Pairs::Raw (&batch)[kPairs][kRowTiles],
                                        const Product& product, int first_row, PairSpan span,
                                        const PairSpan& next) {
  // Loads of x on their way together, of which only the first is waited for: eight, or four where
  // the sums of many tokens leave no registers for more.
  constexpr int kXTiles = kTokenTiles < 4 ? kTokenTiles : 4;
  constexpr int kMostXPairs = kTokenTiles < 4 ? 8 / kTokenTiles : 1;
  constexpr int kXPairs = kPairs < kMostXPairs ? kPairs : kMostXPairs;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int row = first_row + lane / 4;
  while (span.begin < span.end) {
    const int pair = span.begin;
    span.begin += kPairs;
    const PairSpan following = span.begin < span.end ? span : next;
#pragma unroll
    for (int i = 0; i < kPairs; i += kXPairs) {
#pragma unroll
      for (int first = 0; first < kTokenTiles; first += kXTiles) {
        uint4 x[kXPairs][kXTiles];
#pragma unroll
        for (int n = 0; n < kXPairs * kXTiles; ++n) {
          const int64_t byte = (pair + i + n / kXTiles) * kRowPairBytes + lane % 4 * 16;
          const int t = first + n % kXTiles;
          x[n / kXTiles][n % kXTiles] = load_x<kAligned>(product, row + t * 8, byte);
        }
#pragma unroll
        for (int n = 0; n < kXPairs; ++n) {
          if (pair + i + n < span.end) {
            multiply_pair<T, Pairs>(sum, batch[i + n], x[n], first);
          }
          if (first + kXTiles == kTokenTiles) {
            load_pair<Pairs>(batch[i + n], product, following, i + n);
          }
        }
      }
    }
  }
}

// A fragment of sums to the block's memory; `at`: its warp's.
template <typename Sum>
__device__ inline void keep_sums(const Sum (&sum)[4], Sum* at) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  at += lane % 4 * 2 * kSumPitch + lane / 4;
  at[0] = sum[0];
  at[kSumPitch] = sum[1];
  at[8] = sum[2];
  at[kSumPitch + 8] = sum[3];
}

// Grid: kRowTiles rows of tiles x tiles of 8 kTokenTiles tokens.
template <typename T, typename Pairs, int kTokenTiles, int kRowTiles, bool kAligned>
__global__ void __launch_bounds__(kFewThreads)
    multiply_few(const Awaited<Product> given,
                 const __grid_constant__ Awaited<Finish> given_finish) {
  using Sum = typename Math<T>::Sum;
  constexpr int kOutputs = kTokenTiles * 8 * static_cast<int>(kTileRows);  // of a row of tiles
  constexpr int kOwn = (kOutputs + kFewThreads - 1) / kFewThreads;
  constexpr int kWarpSums = kTokenTiles * kTokenTileSums;
  const Product& weights = given.constants();
  auto* sums = reinterpret_cast<Sum*>(block_memory());
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarpThreads;
  const int first_row = static_cast<int>(blockIdx.y) * kTokenTiles * 8;
  const int depth = few_segment_pairs(weights.num_pairs);
  const int num_segments = (weights.num_pairs + depth - 1) / depth;
  constexpr int kPairs = batch_pairs<T, Pairs, kTokenTiles, kRowTiles>();
  typename Pairs::Raw batch[kPairs][kRowTiles];
#pragma unroll
  for (int i = 0; i < kPairs; ++i) load_pair<Pairs>(batch[i], weights, pairs_of(weights, warp), i);
  const Product& product = given.wait();
  const Finish& to = given_finish.wait();
  Sum total[kRowTiles][kOwn] = {};
  for (int round = 0; round < num_segments; round += kFewWarps) {
    const int segment = round + warp;
    const int num_parts = min(num_segments - round, kFewWarps);
    Sum sum[kRowTiles][kTokenTiles][4] = {};
    multiply_segment<T, Pairs, kTokenTiles, kRowTiles, kAligned>(
        sum, batch, product, first_row, pairs_of(product, segment),
        pairs_of(product, segment + kFewWarps));
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      if (warp < num_parts) {
#pragma unroll
        for (int t = 0; t < kTokenTiles; ++t) {
          keep_sums(sum[r][t], sums + warp * kWarpSums + t * kTokenTileSums);
        }
      }
      block_barrier();
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
        const int output = thread + i * kFewThreads;
        if (output >= kOutputs) break;
        const Sum* part =
            sums + output / 128 * kTokenTileSums + output % 128 / 16 * kSumPitch + output % 16;
        for (int p = 0; p < num_parts; ++p) total[r][i] += part[p * kWarpSums];
      }
      block_barrier();
    }
  }
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int output = thread + i * kFewThreads;
      const int row = first_row + output / 16;
      const int tile = static_cast<int>(blockIdx.x) * kRowTiles + r;
      const int column = tile * static_cast<int>(kTileRows) + output % 16;
      if (output >= kOutputs || row >= product.num_rows || column >= product.num_columns) continue;
      if constexpr (kRowTiles * kOwn == 1) {
        finish(to, product, row, column, total[r][i]);
      } else {
        call_finish(to, product, row, column, total[r][i]);
      }
    }
  }
}

// T and Pairs as the linear_few_*.cu have them.
template <typename T, typename Pairs>
Status run_few(const Product& product, const Finish& to, int num_multiprocessors, Stream stream);

}  // namespace sluice::kernels::cuda
