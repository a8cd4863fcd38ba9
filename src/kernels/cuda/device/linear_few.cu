#include "kernels/cuda/device/linear_few.cuh"

#include "kernels/cuda/device/linear_kernels.h"

namespace sluice::kernels::cuda {
namespace {

template <typename T>
Status run_floats(const Product& product, const Finish& to, int num_multiprocessors,
                  Stream stream) {
  if (!product.is_wide) return run_few<T, PlainPairs>(product, to, num_multiprocessors, stream);
  return product.format == WeightFormat::kFloat8
             ? run_few<T, WidePairs<T, Float8>>(product, to, num_multiprocessors, stream)
             : run_few<T, WidePairs<T, int8_t>>(product, to, num_multiprocessors, stream);
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
      return run_few<int8_t, CodePairs>(product, to, num_multiprocessors, stream);
    case WeightFormat::kFloat8:
      return run_few<Float8, PlainPairs>(product, to, num_multiprocessors, stream);
    default:
      return run_few<int8_t, PlainPairs>(product, to, num_multiprocessors, stream);
  }
}

}  // namespace sluice::kernels::cuda
