#include "kernels/cpu/linear.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <functional>

#include "kernels/checks.h"
#include "kernels/compute.h"
#include "kernels/cpu/machine.h"
#include "kernels/cpu/packed_panels.h"
#include "kernels/output_pool.h"
#include "kernels/packed_weight.h"

namespace sluice::kernels::cpu {
namespace {

// Numbers of the input that a task prepares at least: sharing fewer would cost more.
constexpr int64_t kInputTaskElements = 32768;
// Weight bytes of a task at least: large enough for a stream, small enough to balance.
constexpr int64_t kTaskBytes = 131072;

InputArgs input_args(const at::Tensor& x, const PackedWeight& weight) {
  InputArgs args;
  args.type = weight.type;
  args.format = weight.format;
  args.x = x.const_data_ptr();
  args.rows = x.size(0);
  args.depth = x.size(1);
  args.end_row = args.rows;
  return args;
}

// x in the order of the kernels, and its rows' scales behind it, in this thread's scratch memory.
InputArgs prepare_input(const at::Tensor& x, const PackedWeight& weight) {
  const KernelTable& kernels = machine_kernels();
  InputArgs args = input_args(x, weight);
  const int64_t bytes = kernels.input_bytes(args);
  const int64_t scale_bytes = args.rows * static_cast<int64_t>(sizeof(float));
  args.output = scratch(Scratch::kInput, bytes + scale_bytes);
  args.scales = reinterpret_cast<float*>(static_cast<char*>(args.output) + bytes);
  const int64_t task_rows = (kInputTaskElements / args.depth / kPreparedRows + 1) * kPreparedRows;
  auto task = [&](int64_t index) {
    InputArgs part = args;
    part.first_row = index * task_rows;
    part.end_row = std::min(part.first_row + task_rows, args.rows);
    kernels.prepare_input(part);
  };
  parallel_for((args.rows + task_rows - 1) / task_rows, std::ref(task));
  return args;
}

// The blocks of rows are as even as whole input blocks allow: a short last one would read the
// weight again for little.
void run_linear(const LinearArgs& args, const InputArgs& input, const PackedWeight& weight) {
  const LinearPlan plan = machine_kernels().plan_linear(input);
  const int64_t panels_per_task = plan.task_panels > 0
                                      ? plan.task_panels
                                      : std::max<int64_t>(kTaskBytes / weight.panel_bytes, 1);
  const int64_t tasks_per_rows = (weight.num_panels + panels_per_task - 1) / panels_per_task;
  const int64_t least_blocks = (args.rows + plan.row_block - 1) / plan.row_block;
  const int64_t even_rows = (args.rows + least_blocks - 1) / least_blocks;
  const int64_t rows_per_task =
      (even_rows + kInputBlockRows - 1) / kInputBlockRows * kInputBlockRows;
  const int64_t row_blocks = (args.rows + rows_per_task - 1) / rows_per_task;
  auto task = [&](int64_t index) {
    LinearBlock block;
    block.first_row = index / tasks_per_rows * rows_per_task;
    block.num_rows = std::min(rows_per_task, args.rows - block.first_row);
    block.first_panel = index % tasks_per_rows * panels_per_task;
    block.num_panels = std::min(panels_per_task, weight.num_panels - block.first_panel);
    machine_kernels().linear(args, block, scratch(Scratch::kSums, plan.scratch_bytes));
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
  at::Tensor output =
      empty_output({x.size(0), packed->rows}, epilogue.float_output ? at::kFloat : x.scalar_type());
  if (output.numel() == 0) return output;
  LinearArgs args;
  args.type = packed->type;
  args.format = packed->format;
  args.activation = epilogue.activation;
  args.float_output = epilogue.float_output;
  args.panels = packed->panels.data();
  args.bias = epilogue.bias ? epilogue.bias->const_data_ptr() : nullptr;
  args.residual = epilogue.residual ? epilogue.residual->const_data_ptr() : nullptr;
  args.output = output.data_ptr();
  args.rows = x.size(0);
  args.columns = packed->rows;
  args.depth_tiles = packed->depth_tiles;
  args.panel_bytes = packed->panel_bytes;
  args.group_size = packed->group_size;
  args.weight_scales = static_cast<const float*>(packed->scales.data());
  args.weight_sums = static_cast<const int32_t*>(packed->sums.data());
  const InputArgs input = prepare_input(x, *packed);
  args.input = input.output;
  args.input_scales = input.scales;
  run_linear(args, input, *packed);
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
