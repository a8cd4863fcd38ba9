#include "sampling/row_kernels_impl.h"

namespace sluice::sampling::avx512 {

const RowKernels kRowKernels = {key_range, weigh, bucket};

}  // namespace sluice::sampling::avx512
