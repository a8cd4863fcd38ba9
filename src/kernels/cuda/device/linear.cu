#include "kernels/cuda/device/kernels.h"
#include "kernels/cuda/device/linear_kernels.h"
#include "kernels/cuda/device/linear_parts.cuh"

// Chooses kernels of `linear`. The choice moves no bit.
namespace sluice::kernels::cuda {
namespace {

constexpr int64_t kAlignment = 256;

constexpr int64_t aligned(int64_t bytes) {
  return divide_up(bytes, kAlignment) * kAlignment;
}

// Whether x becomes bytes.
bool has_byte_product(const Weight& weight) {
  return weight.format != WeightFormat::kPlain && !weight.is_wide;
}

// What a product of bytes keeps in the workspace, one after the other.
struct ByteWorkspace {
  int64_t scales = 0;    // bytes, of x's rows
  int64_t row = 0;       // of one row of x
  int64_t expanded = 0;  // of int4's weight, for many rows

  explicit ByteWorkspace(const LinearArgs& args)
      : scales(aligned(args.num_rows * 4)), row(divide_up(args.weight.columns, 16) * 16) {
    if (args.weight.format == WeightFormat::kInt4 && args.num_rows > kFewRows) {
      Weight as_bytes = args.weight;
      as_bytes.format = WeightFormat::kInt8;
      expanded = weight_bytes(as_bytes);
    }
  }
  int64_t rows_begin() const { return scales; }
  int64_t expanded_begin(int64_t num_rows) const { return scales + aligned(row * num_rows); }
};

Finish finish_of(const LinearArgs& args) {
  Finish to;
  to.type = args.weight.type;
  to.bias = args.bias;
  to.residual = args.residual;
  to.output = args.output;
  to.column_scales = args.weight.scales;
  to.activation = args.activation;
  to.float_output = args.float_output;
  return to;
}

Status run_bytes(const LinearArgs& args, Product product, Finish to, Stream stream) {
  const ByteWorkspace layout(args);
  auto* workspace = static_cast<unsigned char*>(args.workspace);
  auto* scales = reinterpret_cast<float*>(workspace);
  uint8_t* rows = workspace + layout.rows_begin();
  if (const Status status = quantize_rows(args, rows, layout.row, scales, stream);
      status != kSuccess) {
    return status;
  }
  product.x = rows;
  product.row_bytes = layout.row;
  to.row_scales = scales;
  if (args.num_rows <= kFewRows) {
    return multiply_few_bytes(product, to, args.num_multiprocessors, stream);
  }
  if (layout.expanded > 0) {
    unsigned char* tiles = workspace + layout.expanded_begin(args.num_rows);
    if (const Status status = expand_codes(args.weight, tiles, stream); status != kSuccess) {
      return status;
    }
    product.tiles = tiles;
  }
  return multiply_many_bytes(product, to, args.num_multiprocessors, stream);
}

}  // namespace

int64_t linear_workspace(const LinearArgs& args) {
  if (!has_byte_product(args.weight)) return 0;
  const ByteWorkspace layout(args);
  return layout.expanded_begin(args.num_rows) + layout.expanded;
}

Status linear(const LinearArgs& args, Stream stream) {
  if (args.num_rows == 0) return kSuccess;
  Product product = product_of(args.weight);
  product.x = static_cast<const unsigned char*>(args.x);
  product.num_rows = static_cast<int>(args.num_rows);
  const Finish to = finish_of(args);
  if (has_byte_product(args.weight)) return run_bytes(args, product, to, stream);
  product.row_bytes = args.weight.columns * size_of(args.weight.type);
  const bool is_few = args.num_rows <= kFewRows || product.row_bytes % 16 != 0;
  const int32_t multiprocessors = args.num_multiprocessors;
  switch (args.weight.type) {
    case DType::kF32:
      return multiply_floats(product, to, stream);
    case DType::kF16:
      return is_few ? multiply_few_halves(product, to, multiprocessors, stream)
                    : multiply_many_halves(product, to, multiprocessors, stream);
    case DType::kBF16:
      break;
  }
  return is_few ? multiply_few_bfloats(product, to, multiprocessors, stream)
                : multiply_many_bfloats(product, to, multiprocessors, stream);
}

}  // namespace sluice::kernels::cuda
