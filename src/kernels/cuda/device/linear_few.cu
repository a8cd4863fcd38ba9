#include "kernels/cuda/device/linear_few.cuh"

#include "kernels/cuda/device/linear_kernels.h"

namespace sluice::kernels::cuda {
namespace {

template <typename T, typename Pairs, int kTokenTiles, int kRowTiles, bool kAligned = true>
Status run(const Product& product, const Finish& to, Stream stream) {
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
  return run<T, Pairs, kTokenTiles, kMost>(product, to, stream);
}

// As few tokens of a block as there are, up to 64; of those, with up to kMost row tiles.
template <typename T, typename Pairs, int kMost = 4>
Status run_fitting(const Product& product, const Finish& to, int num_multiprocessors,
                   Stream stream) {
  if (product.num_rows <= 8) return run<T, Pairs, 1, 1>(product, to, stream);
  if (product.num_rows <= 16) {
    return run_row_tiles<T, Pairs, 2, 2>(product, to, num_multiprocessors, stream);
  }
  if (product.num_rows <= 32) {
    return run_row_tiles<T, Pairs, 4, 4>(product, to, num_multiprocessors, stream);
  }
  return run_row_tiles<T, Pairs, 8, kMost>(product, to, num_multiprocessors, stream);
}

template <typename T, typename Pairs>
Status run_any_length(const Product& product, const Finish& to, int num_multiprocessors,
                      Stream stream) {
  // No published model has such rows: they need to be right, not fast.
  if (product.row_bytes % 16 != 0) return run<T, Pairs, 2, 1, false>(product, to, stream);
  return run_fitting<T, Pairs>(product, to, num_multiprocessors, stream);
}

template <typename T>
Status run_floats(const Product& product, const Finish& to, int num_multiprocessors,
                  Stream stream) {
  if (!product.is_wide) {
    return run_any_length<T, PlainPairs>(product, to, num_multiprocessors, stream);
  }
  return product.format == WeightFormat::kFloat8
             ? run_any_length<T, WidePairs<T, Float8>>(product, to, num_multiprocessors, stream)
             : run_any_length<T, WidePairs<T, int8_t>>(product, to, num_multiprocessors, stream);
}

}  // namespace

Status multiply_few_halves(const Product& product, const Finish& to, int num_multiprocessors,
                           Stream stream) {
  return run_floats<Half>(product, to, num_multiprocessors, stream);
}

Status multiply_few_bfloats(const Product& product, const Finish& to, int num_multiprocessors,
                            Stream stream) {
  return run_floats<BFloat16>(product, to, num_multiprocessors, stream);
}

Status multiply_few_bytes(const Product& product, const Finish& to, int num_multiprocessors,
                          Stream stream) {
  switch (product.format) {
    case WeightFormat::kInt4:
      // Registers hold no more of both codes and multipliers.
      return run_fitting<int8_t, CodePairs, 2>(product, to, num_multiprocessors, stream);
    case WeightFormat::kFloat8:
      return run_fitting<Float8, PlainPairs>(product, to, num_multiprocessors, stream);
    default:
      return run_fitting<int8_t, PlainPairs>(product, to, num_multiprocessors, stream);
  }
}

}  // namespace sluice::kernels::cuda
