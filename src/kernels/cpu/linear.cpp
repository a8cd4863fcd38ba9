#include "kernels/cpu/linear.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <functional>

#include "kernels/checks.h"
#include "kernels/compute.h"
#include "kernels/cpu/machine.h"
#include "kernels/cpu/packed_panels.h"
#include "kernels/packed_weight.h"

namespace sluice::kernels::cpu {
namespace {

// Inputs up to this many numbers are prepared by the caller: sharing would cost more.
constexpr int64_t kSharedInputElements = 32768;
// Weight bytes of a task at least: large enough for a stream, small enough to balance.
constexpr int64_t kTaskBytes = 131072;
// Bytes of prepared input that many panels meet one after the other: they stay in a core's
// second-level cache, beside a panel.
constexpr int64_t kRowBlockBytes = 786432;

// x in the order of the kernels, in this thread's scratch memory.
const void* prepare_input(const at::Tensor& x, const PackedWeight& weight) {
  const KernelTable& kernels = machine_kernels();
  InputArgs args;
  args.type = weight.type;
  args.x = x.const_data_ptr();
  args.rows = x.size(0);
  args.depth = x.size(1);
  args.output =
      scratch(Scratch::kInput, kernels.input_bytes(args.type, args.rows, weight.depth_tiles));
  args.num_blocks = (args.rows + kInputBlockRows - 1) / kInputBlockRows;
  if (x.numel() <= kSharedInputElements) {
    kernels.prepare_input(args);
    return args.output;
  }
  auto task = [&](int64_t block) {
    InputArgs part = args;
    part.first_block = block;
    part.num_blocks = 1;
    kernels.prepare_input(part);
  };
  parallel_for(args.num_blocks, std::ref(task));
  return args.output;
}

void run_linear(const LinearArgs& args, const PackedWeight& weight) {
  const int64_t panel_bytes = weight.panels.bytes() / std::max<int64_t>(weight.num_panels, 1);
  const int64_t panels_per_task = std::max<int64_t>(kTaskBytes / panel_bytes, 1);
  const int64_t tasks_per_rows = (weight.num_panels + panels_per_task - 1) / panels_per_task;
  const int64_t input_bytes =
      machine_kernels().input_bytes(weight.type, kInputBlockRows, weight.depth_tiles);
  const int64_t rows_per_task =
      kInputBlockRows *
      std::clamp<int64_t>(kRowBlockBytes / input_bytes, 1, kMaxRowBlock / kInputBlockRows);
  const int64_t row_blocks = (args.rows + rows_per_task - 1) / rows_per_task;
  auto task = [&](int64_t index) {
    LinearBlock block;
    block.first_row = index / tasks_per_rows * rows_per_task;
    block.num_rows = std::min(rows_per_task, args.rows - block.first_row);
    block.first_panel = index % tasks_per_rows * panels_per_task;
    block.num_panels = std::min(panels_per_task, weight.num_panels - block.first_panel);
    auto* sums = static_cast<float*>(
        scratch(Scratch::kSums, kLinearScratchFloats * static_cast<int64_t>(sizeof(float))));
    machine_kernels().linear(args, block, sums);
  };
  parallel_for(row_blocks * tasks_per_rows, std::ref(task));
}

struct Epilogue {
  const std::optional<at::Tensor>& bias;
  const std::optional<at::Tensor>& residual;
  Activation activation = Activation::kNone;
  bool float_output = false;
};

at::Tensor multiply(const at::Tensor& x, const at::Tensor& weight, const Epilogue& epilogue) {
  const PackedWeight* packed = packed_weight(weight);
  at::Tensor packed_here;
  if (packed == nullptr) {
    Result<at::Tensor> result = pack_weight(weight);
    TORCH_CHECK(result.has_value(), result.error().message);
    packed_here = *std::move(result);
    packed = packed_weight(packed_here);
  }
  const auto options = epilogue.float_output ? x.options().dtype(at::kFloat) : x.options();
  at::Tensor output = at::empty({x.size(0), packed->rows}, options);
  if (output.numel() == 0) return output;
  LinearArgs args;
  args.type = packed->type;
  args.activation = epilogue.activation;
  args.float_output = epilogue.float_output;
  args.panels = packed->panels.data();
  args.bias = epilogue.bias ? epilogue.bias->const_data_ptr() : nullptr;
  args.residual = epilogue.residual ? epilogue.residual->const_data_ptr() : nullptr;
  args.output = output.data_ptr();
  args.rows = x.size(0);
  args.columns = packed->rows;
  args.depth_tiles = packed->depth_tiles;
  args.input = prepare_input(x, *packed);
  run_linear(args, *packed);
  return output;
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, std::string_view activation,
                  const std::optional<at::Tensor>& residual) {
  check_linear(x, weight, bias, residual);
  return multiply(x, weight, {bias, residual, parse_activation(activation), false});
}

at::Tensor logits(const at::Tensor& x, const at::Tensor& weight) {
  check_linear(x, weight, std::nullopt, std::nullopt);
  return multiply(x, weight, {std::nullopt, std::nullopt, Activation::kNone, true});
}

}  // namespace sluice::kernels::cpu
