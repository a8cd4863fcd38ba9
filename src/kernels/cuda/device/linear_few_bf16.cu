#include "kernels/cuda/device/linear_few_run.cuh"

namespace sluice::kernels::cuda {

template Status run_few<BFloat16, PlainPairs>(const Product&, const Finish&, int, Stream);

}  // namespace sluice::kernels::cuda
