#include <c10/util/Exception.h>
#include <torch/library.h>

#include "kernels/backends.h"
#include "kernels/checks.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/operators.h"
#include "kernels/output_pool.h"

// The operators over the table of device_api.h: arguments checked, results allocated, kernels put
// into the device's stream.
namespace sluice::kernels::cuda {
namespace {

// An operand's memory, if it is where the kernel runs.
template <typename T = void>
const T* pointer(const CudaDevice& device, const at::Tensor& tensor) {
  TORCH_CHECK(&device_of(tensor) == &device, "an operand is on ", tensor.device(), ", expected ",
              device.name());
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T = void>
const T* pointer(const CudaDevice& device, const std::optional<at::Tensor>& tensor) {
  return tensor ? pointer<T>(device, *tensor) : nullptr;
}

// The weight as kernels take it. A plain one is packed for the call, which costs a copy: tests and
// programs of the user's own do that.
class PackedOperand {
 public:
  PackedOperand(CudaDevice& device, const at::Tensor& weight) {
    TORCH_CHECK(&device_of(weight) == &device, "weight is on ", weight.device(), ", expected ",
                device.name());
    auto packed = packed_weight(weight);
    if (!packed) {
      owner_ = device.pack(device.download(weight)).value();
      packed = packed_weight(owner_);
    }
    weight_ = *packed;
  }
  const Weight& operator*() const { return weight_; }

 private:
  at::Tensor owner_;
  Weight weight_;
};

void gather_rows(CudaDevice& device, const at::Tensor& x, const at::Tensor& indices,
                 at::Tensor& output) {
  SelectRowsArgs args;
  args.x = pointer(device, x);
  args.num_source_rows = x.size(0);
  args.indices = pointer<int32_t>(device, indices);
  args.num_rows = indices.size(0);
  args.row_bytes = x.size(1) * static_cast<int64_t>(x.element_size());
  args.output = output.data_ptr();
  device.run(device.api().select_rows, args);
}

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& weight,
                 const std::optional<at::Tensor>& residual) {
  check_embed(tokens, weight, residual);
  CudaDevice& device = device_of(tokens);
  at::Tensor output = empty_output({tokens.size(0), weight.size(1)}, weight.scalar_type(), device);
  if (const auto packed = packed_weight(weight)) {
    EmbedArgs args;
    args.weight = *packed;
    args.tokens = pointer<int32_t>(device, tokens);
    args.num_tokens = tokens.size(0);
    args.output = output.data_ptr();
    device.run(device.api().embed, args);
  } else {
    gather_rows(device, weight, tokens, output);
  }
  if (residual) {
    AddArgs args;
    args.type = dtype_of(output);
    args.x = output.data_ptr();
    args.y = pointer(device, residual);
    args.output = output.data_ptr();
    args.count = output.numel();
    device.run(device.api().add, args);
  }
  return output;
}

NormArgs norm_args(const CudaDevice& device, const at::Tensor& x, const at::Tensor& weight,
                   double epsilon, at::Tensor& output) {
  NormArgs args;
  args.type = dtype_of(x);
  args.x = pointer(device, x);
  args.weight = pointer(device, weight);
  args.output = output.data_ptr();
  args.num_rows = x.size(0);
  args.size = weight.size(0);
  args.stride = x.size(1);
  args.epsilon = static_cast<float>(epsilon);
  return args;
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  check_norm(x, weight, std::nullopt);
  CudaDevice& device = device_of(x);
  at::Tensor output = empty_output(x.sizes(), x.scalar_type(), device);
  device.run(device.api().rms_norm, norm_args(device, x, weight, epsilon, output));
  return output;
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double epsilon) {
  check_norm(x, weight, bias);
  CudaDevice& device = device_of(x);
  at::Tensor output = empty_output(x.sizes(), x.scalar_type(), device);
  NormArgs args = norm_args(device, x, weight, epsilon, output);
  args.bias = pointer(device, bias);
  device.run(device.api().layer_norm, args);
  return output;
}

// A view of a row's heads from `first_head` on.
NormArgs of_heads(NormArgs args, int64_t first_head, int64_t num_heads, const void* weight) {
  const int64_t offset = first_head * args.size * size_of(args.type);
  args.x = static_cast<const std::byte*>(args.x) + offset;
  args.output = static_cast<std::byte*>(args.output) + offset;
  args.heads = num_heads;
  args.weight = weight;
  return args;
}

at::Tensor head_norm(const at::Tensor& qkv, const at::Tensor& query_weight,
                     const at::Tensor& key_weight, int64_t num_heads, int64_t num_kv_heads,
                     double epsilon) {
  check_head_norm(qkv, query_weight, key_weight, num_heads, num_kv_heads);
  CudaDevice& device = device_of(qkv);
  at::Tensor output = empty_output(qkv.sizes(), qkv.scalar_type(), device);
  const NormArgs args = norm_args(device, qkv, query_weight, epsilon, output);
  const auto& api = device.api();
  device.run(api.rms_norm, of_heads(args, 0, num_heads, args.weight));
  device.run(api.rms_norm, of_heads(args, num_heads, num_kv_heads, pointer(device, key_weight)));
  const int64_t head_bytes = args.size * size_of(args.type);
  CopyColumnsArgs values;
  values.x = args.x;
  values.output = args.output;
  values.num_rows = args.num_rows;
  values.row_bytes = args.stride * size_of(args.type);
  values.first_byte = (num_heads + num_kv_heads) * head_bytes;
  values.num_bytes = num_kv_heads * head_bytes;
  device.run(api.copy_columns, values);
  return output;
}

void run_linear(CudaDevice& device, LinearArgs& args, at::Tensor& output) {
  args.output = output.data_ptr();
  args.num_multiprocessors = device.info().num_multiprocessors;
  args.workspace = device.workspace(device.api().linear_workspace(args));
  device.run(device.api().linear, args);
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, std::string_view activation,
                  const std::optional<at::Tensor>& residual) {
  check_linear(x, weight, bias, residual);
  CudaDevice& device = device_of(x);
  const PackedOperand packed(device, weight);
  LinearArgs args;
  args.weight = *packed;
  args.x = pointer(device, x);
  args.bias = pointer(device, bias);
  args.residual = pointer(device, residual);
  args.num_rows = x.size(0);
  args.activation = parse_activation(activation);
  at::Tensor output = empty_output({x.size(0), weight.size(0)}, x.scalar_type(), device);
  run_linear(device, args, output);
  return output;
}

at::Tensor logits(const at::Tensor& x, const at::Tensor& weight) {
  check_linear(x, weight, std::nullopt, std::nullopt);
  CudaDevice& device = device_of(x);
  const PackedOperand packed(device, weight);
  LinearArgs args;
  args.weight = *packed;
  args.x = pointer(device, x);
  args.num_rows = x.size(0);
  args.float_output = true;
  at::Tensor output = empty_output({x.size(0), weight.size(0)}, at::kFloat, device);
  run_linear(device, args, output);
  return output;
}

at::Tensor swiglu(const at::Tensor& x) {
  check_swiglu(x);
  CudaDevice& device = device_of(x);
  SwigluArgs args;
  args.type = dtype_of(x);
  args.x = pointer(device, x);
  args.num_rows = x.size(0);
  args.size = x.size(1) / 2;
  at::Tensor output = empty_output({x.size(0), args.size}, x.scalar_type(), device);
  args.output = output.data_ptr();
  device.run(device.api().swiglu, args);
  return output;
}

at::Tensor attention(const at::Tensor& qkv, const at::Tensor& positions, at::Tensor cache,
                     at::TensorList plan, int64_t num_heads, int64_t num_kv_heads, double scale,
                     const std::optional<at::Tensor>& rope,
                     const std::optional<at::Tensor>& alibi_slopes, int64_t window) {
  const AttentionSizes sizes = check_attention({qkv, positions, cache, plan, rope, alibi_slopes},
                                               num_heads, num_kv_heads, window);
  CudaDevice& device = device_of(qkv);
  at::Tensor output =
      empty_output({sizes.num_tokens, num_heads * sizes.head_size}, qkv.scalar_type(), device);
  AttentionArgs args;
  args.type = dtype_of(qkv);
  args.cache_format = sizes.cache_format;
  args.qkv = pointer(device, qkv);
  args.positions = pointer<int32_t>(device, positions);
  args.cache = const_cast<void*>(pointer(device, cache));
  args.starts = pointer<int32_t>(device, plan[kSequenceStarts]);
  args.contexts = pointer<int32_t>(device, plan[kContextLengths]);
  args.tables = pointer<int32_t>(device, plan[kBlockTables]);
  args.rope = pointer<float>(device, rope);
  args.alibi_slopes = pointer<float>(device, alibi_slopes);
  args.output = output.data_ptr();
  args.num_tokens = sizes.num_tokens;
  args.num_sequences = sizes.num_sequences;
  args.num_heads = num_heads;
  args.num_kv_heads = num_kv_heads;
  args.head_size = sizes.head_size;
  args.block_size = sizes.block_size;
  args.max_blocks = sizes.max_blocks;
  args.rotary_size = sizes.rotary_size;
  args.rotary_positions = sizes.rotary_positions;
  args.num_blocks = sizes.num_blocks;
  args.window = window;
  args.scale = static_cast<float>(scale);
  args.workspace = device.workspace(device.api().attention_workspace(args));
  device.run(device.api().attention, args);
  return output;
}

at::Tensor select_rows(const at::Tensor& x, at::TensorList plan) {
  check_select_rows(x, plan);
  CudaDevice& device = device_of(x);
  const at::Tensor& wanted = plan[kLogitRows];
  at::Tensor output = empty_output({wanted.size(0), x.size(1)}, x.scalar_type(), device);
  gather_rows(device, x, wanted, output);
  return output;
}

}  // namespace

void register_backend(torch::Library& library) {
  library.impl("embed", &embed);
  library.impl("rms_norm", &rms_norm);
  library.impl("layer_norm", &layer_norm);
  library.impl("head_norm", &head_norm);
  library.impl("linear", &linear);
  library.impl("swiglu", &swiglu);
  library.impl("attention", &attention);
  library.impl("select_rows", &select_rows);
  library.impl("logits", &logits);
}

}  // namespace sluice::kernels::cuda
