#include "kernels/cuda/device/linear_few_run.cuh"

namespace sluice::kernels::cuda {

template Status run_few<int8_t, PlainPairs>(const Product&, const Finish&, int, Stream);
template Status run_few<int8_t, CodePairs>(const Product&, const Finish&, int, Stream);

}  // namespace sluice::kernels::cuda
