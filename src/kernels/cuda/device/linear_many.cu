#include "kernels/cuda/device/linear_many.cuh"

#include "kernels/cuda/device/linear_kernels.h"

namespace sluice::kernels::cuda {
namespace {

template <typename T, typename Pairs, int kRowTiles, int kTokenTiles, int kMostStageBytes>
Status run(const Product& product, const Finish& to, Stream stream) {
  using Shape = ManyShape<Pairs, kRowTiles, kTokenTiles, kMostStageBytes>;
  Grid grid;
  grid.blocks = dim3(static_cast<unsigned>(divide_up(product.num_rows, Shape::kM)),
                     static_cast<unsigned>(divide_up(product.num_columns, Shape::kN)));
  grid.threads = kManyThreads;
  grid.block_memory_bytes = Shape::kMemoryBytes;
  return launch(multiply_many<T, Pairs, kRowTiles, kTokenTiles, kMostStageBytes>, grid, stream,
                product, to);
}

// The largest blocks that still give every multiprocessor one.
template <typename T, typename Pairs>
Status run_fitting(const Product& product, const Finish& to, int num_multiprocessors,
                   Stream stream) {
  const int64_t large = divide_up(product.num_rows, 128) * divide_up(product.num_columns, 128);
  if (large >= num_multiprocessors) return run<T, Pairs, 2, 8, kAllStageBytes>(product, to, stream);
  const int64_t small = divide_up(product.num_rows, 64) * divide_up(product.num_columns, 64);
  return small <= num_multiprocessors ? run<T, Pairs, 1, 4, kAllStageBytes>(product, to, stream)
                                      : run<T, Pairs, 1, 4, kHalfStageBytes>(product, to, stream);
}

template <typename T>
Status run_floats(const Product& product, const Finish& to, int num_multiprocessors,
                  Stream stream) {
  if (!product.is_wide) return run_fitting<T, PlainPairs>(product, to, num_multiprocessors, stream);
  return product.format == WeightFormat::kFloat8
             ? run_fitting<T, WidePairs<T, Float8>>(product, to, num_multiprocessors, stream)
             : run_fitting<T, WidePairs<T, int8_t>>(product, to, num_multiprocessors, stream);
}

}  // namespace

Status multiply_many_halves(const Product& product, const Finish& to, int num_multiprocessors,
                            Stream stream) {
  return run_floats<Half>(product, to, num_multiprocessors, stream);
}

Status multiply_many_bfloats(const Product& product, const Finish& to, int num_multiprocessors,
                             Stream stream) {
  return run_floats<BFloat16>(product, to, num_multiprocessors, stream);
}

Status multiply_many_bytes(const Product& product, const Finish& to, int num_multiprocessors,
                           Stream stream) {
  return product.format == WeightFormat::kFloat8
             ? run_fitting<Float8, PlainPairs>(product, to, num_multiprocessors, stream)
             : run_fitting<int8_t, PlainPairs>(product, to, num_multiprocessors, stream);
}

}  // namespace sluice::kernels::cuda
