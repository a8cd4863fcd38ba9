#include "kernels/cuda/device/linear_kernels.h"
#include "kernels/cuda/device/linear_parts.cuh"

// `linear` in float32. Its order of the sum over K is its own: lane l of a warp takes l, l + 32,
// and so on, then the lanes' sums are added as a tree.
namespace sluice::kernels::cuda {
namespace {

constexpr int kRows = 8;  // of x, for one row of the weight and a warp
constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpThreads;

__global__ void __launch_bounds__(kThreads)
    multiply(const Awaited<Product> given, const __grid_constant__ Awaited<Finish> given_finish) {
  const Product& product = given.wait();
  const Finish& to = given_finish.wait();
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int column =
      static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarpThreads;
  if (column >= product.num_columns) return;
  const int first_row = static_cast<int>(blockIdx.y) * kRows;
  const int64_t depth = product.row_bytes / 4;
  const auto* weight = reinterpret_cast<const float*>(product.tiles) + column * depth;
  const auto* x = reinterpret_cast<const float*>(product.x) + first_row * depth;
  float sum[kRows] = {};
  for (int64_t k = lane; k < depth; k += kWarpThreads) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (first_row + r < product.num_rows) sum[r] = fmaf(weight[k], x[r * depth + k], sum[r]);
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
      sum[r] += warp_shuffle_xor(sum[r], mask);
    }
    if (lane == 0 && first_row + r < product.num_rows) {
      call_finish(to, product, first_row + r, column, sum[r]);
    }
  }
}

}  // namespace

Status multiply_floats(const Product& product, const Finish& to, Stream stream) {
  Grid grid;
  grid.blocks = dim3(static_cast<unsigned>(divide_up(product.num_columns, kWarps)),
                     static_cast<unsigned>(divide_up(product.num_rows, kRows)));
  grid.threads = kThreads;
  return launch(multiply, grid, stream, product, to);
}

}  // namespace sluice::kernels::cuda
