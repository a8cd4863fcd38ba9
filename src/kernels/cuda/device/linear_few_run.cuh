#pragma once

#include "kernels/cuda/device/linear_few.cuh"

// Launches of multiply_few: which blocks. Each linear_few_*.cu has those of some operands, since
// together they take the compiler minutes.
namespace sluice::kernels::cuda {

template <typename T, typename Pairs, int kTokenTiles, int kRowTiles, bool kAligned = true>
Status run_few_tiles(const Product& product, const Finish& to, Stream stream) {
  Grid grid;
  grid.blocks = dim3(static_cast<unsigned>(divide_up(product.num_columns, kRowTiles * kTileRows)),
                     static_cast<unsigned>(divide_up(product.num_rows, kTokenTiles * 8)));
  grid.threads = kFewThreads;
  grid.block_memory_bytes = few_memory_bytes<kTokenTiles>();
  return launch(multiply_few<T, Pairs, kTokenTiles, kRowTiles, kAligned>, grid, stream, product,
                to);
}

// The most row tiles of a block, up to kMost, that still give two of three multiprocessors a block.
template <typename T, typename Pairs, int kTokenTiles, int kMost>
Status run_row_tiles(const Product& product, const Finish& to, int num_multiprocessors,
                     Stream stream) {
  if constexpr (kMost > 1) {
    const int64_t blocks = divide_up(product.num_columns, kMost * kTileRows);
    if (3 * blocks < 2 * num_multiprocessors) {
      return run_row_tiles<T, Pairs, kTokenTiles, kMost / 2>(product, to, num_multiprocessors,
                                                             stream);
    }
  }
  return run_few_tiles<T, Pairs, kTokenTiles, kMost>(product, to, stream);
}

// As few tokens of a block as there are, up to 64; of those, with as many row tiles as registers
// suffice for.
template <typename T, typename Pairs>
Status run_few(const Product& product, const Finish& to, int num_multiprocessors, Stream stream) {
  if constexpr (sizeof(T) == 2) {
    // No published model has such rows: they need to be right, not fast.
    if (product.row_bytes % 16 != 0)
      return run_few_tiles<T, Pairs, 2, 1, false>(product, to, stream);
  }
  if (product.num_rows <= 8) return run_few_tiles<T, Pairs, 1, 1>(product, to, stream);
  if (product.num_rows <= 16) {
    return run_row_tiles<T, Pairs, 2, 2>(product, to, num_multiprocessors, stream);
  }
  if (product.num_rows <= 32) {
    return run_row_tiles<T, Pairs, 4, 4>(product, to, num_multiprocessors, stream);
  }
  constexpr int kMost = __is_same(Pairs, CodePairs) ? 2 : 4;
  return run_row_tiles<T, Pairs, 8, kMost>(product, to, num_multiprocessors, stream);
}

}  // namespace sluice::kernels::cuda
