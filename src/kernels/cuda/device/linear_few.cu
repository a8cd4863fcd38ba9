#include "kernels/cuda/device/linear_few.cuh"

#include "kernels/cuda/device/linear_kernels.h"

namespace sluice::kernels::cuda {
namespace {

template <typename T, typename Pairs, int kTokenTiles, bool kAligned = true>
Status run(const Product& product, const Finish& to, Stream stream) {
  Grid grid;
  grid.blocks = dim3(static_cast<unsigned>(divide_up(product.num_columns, kTileRows)),
                     static_cast<unsigned>(divide_up(product.num_rows, kTokenTiles * 8)));
  grid.threads = kFewThreads;
  grid.block_memory_bytes = few_memory_bytes<kTokenTiles>();
  return launch(multiply_few<T, Pairs, kTokenTiles, kAligned>, grid, stream, product, to);
}

// As few tokens of a block as there are, up to 64.
template <typename T, typename Pairs>
Status run_fitting(const Product& product, const Finish& to, Stream stream) {
  if (product.num_rows <= 8) return run<T, Pairs, 1>(product, to, stream);
  if (product.num_rows <= 16) return run<T, Pairs, 2>(product, to, stream);
  if (product.num_rows <= 32) return run<T, Pairs, 4>(product, to, stream);
  return run<T, Pairs, 8>(product, to, stream);
}

template <typename T, typename Pairs>
Status run_any_length(const Product& product, const Finish& to, Stream stream) {
  // No published model has such rows: they need to be right, not fast.
  if (product.row_bytes % 16 != 0) return run<T, Pairs, 2, false>(product, to, stream);
  return run_fitting<T, Pairs>(product, to, stream);
}

template <typename T>
Status run_floats(const Product& product, const Finish& to, Stream stream) {
  if (!product.is_wide) return run_any_length<T, PlainPairs>(product, to, stream);
  return product.format == WeightFormat::kFloat8
             ? run_any_length<T, WidePairs<T, Float8>>(product, to, stream)
             : run_any_length<T, WidePairs<T, int8_t>>(product, to, stream);
}

}  // namespace

Status multiply_few_halves(const Product& product, const Finish& to, Stream stream) {
  return run_floats<Half>(product, to, stream);
}

Status multiply_few_bfloats(const Product& product, const Finish& to, Stream stream) {
  return run_floats<BFloat16>(product, to, stream);
}

Status multiply_few_bytes(const Product& product, const Finish& to, Stream stream) {
  switch (product.format) {
    case WeightFormat::kInt4:
      return run_fitting<int8_t, CodePairs>(product, to, stream);
    case WeightFormat::kFloat8:
      return run_fitting<Float8, PlainPairs>(product, to, stream);
    default:
      return run_fitting<int8_t, PlainPairs>(product, to, stream);
  }
}

}  // namespace sluice::kernels::cuda
