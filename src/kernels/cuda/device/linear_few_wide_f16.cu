#include "kernels/cuda/device/linear_few_run.cuh"

namespace sluice::kernels::cuda {

template Status run_few<Half, WidePairs<Half, int8_t>>(const Product&, const Finish&, int, Stream);
template Status run_few<Half, WidePairs<Half, Float8>>(const Product&, const Finish&, int, Stream);

}  // namespace sluice::kernels::cuda
