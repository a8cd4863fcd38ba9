#pragma once

#include "kernels/cuda/device_api.h"

namespace sluice::kernels::cuda {

// Adds to each row's counts what its previous_row has drawn. Requires: args.previous.
Status count_previous(const SampleArgs& args, Stream stream);

}  // namespace sluice::kernels::cuda
