#include "kernels/cuda/device/linear_few_run.cuh"

namespace sluice::kernels::cuda {

template Status run_few<Half, PlainPairs>(const Product&, const Finish&, int, Stream);

}  // namespace sluice::kernels::cuda
