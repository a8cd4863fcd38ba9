#pragma once

// Whether sums keep the order that decision 23 fixes. Built without it (SLUICE_FASTEST_ORDER, the
// target sluice_cuda_fastest_order) the kernels share out each call as is fastest for it, and a
// row's bits depend on its company: for measuring what the order costs, and for nothing else.
namespace sluice::kernels::cuda {

#ifdef SLUICE_FASTEST_ORDER
inline constexpr bool kFixedOrder = false;
#else
inline constexpr bool kFixedOrder = true;
#endif

}  // namespace sluice::kernels::cuda
