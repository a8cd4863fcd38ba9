#include "kernels/operators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <memory>
#include <string>

#include "kernels/backends.h"
#include "kernels/schemas.h"

namespace sluice::kernels {
namespace {

// Holds the registrations for the process's life. Made by a call and not by a static initializer,
// because a linker drops an object file of a static library that nothing refers to.
struct Registrations {
  torch::Library definitions{torch::Library::DEF, kOperatorNamespace, std::nullopt, __FILE__,
                             __LINE__};
  torch::Library fallback{torch::Library::IMPL, kOperatorNamespace,
                          c10::DispatchKey::CompositeExplicitAutograd, __FILE__, __LINE__};
  torch::Library cpu{torch::Library::IMPL, kOperatorNamespace, c10::DispatchKey::CPU, __FILE__,
                     __LINE__};
  torch::Library cuda{torch::Library::IMPL, kOperatorNamespace, c10::DispatchKey::CUDA, __FILE__,
                      __LINE__};

  Registrations() {
    for (const char* schema : kOperatorSchemas) definitions.def(schema);
    reference::register_backend(fallback);
    cpu::register_backend(cpu);
    cuda::register_backend(cuda);
  }
};

template <typename Signature>
c10::TypedOperatorHandle<Signature> find(const char* name) {
  register_operators();
  return c10::Dispatcher::singleton()
      .findSchemaOrThrow((std::string(kOperatorNamespace) + "::" + name).c_str(), "")
      .typed<Signature>();
}

}  // namespace

void register_operators() {
  static const Registrations* registrations = new Registrations;
  (void)registrations;
}

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& weight,
                 const std::optional<at::Tensor>& residual) {
  static const auto op = find<decltype(embed)>("embed");
  return op.call(tokens, weight, residual);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  static const auto op = find<decltype(rms_norm)>("rms_norm");
  return op.call(x, weight, epsilon);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      double epsilon) {
  static const auto op = find<decltype(layer_norm)>("layer_norm");
  return op.call(x, weight, bias, epsilon);
}

at::Tensor head_norm(const at::Tensor& qkv, const at::Tensor& query_weight,
                     const at::Tensor& key_weight, int64_t num_heads, int64_t num_kv_heads,
                     double epsilon) {
  static const auto op = find<decltype(head_norm)>("head_norm");
  return op.call(qkv, query_weight, key_weight, num_heads, num_kv_heads, epsilon);
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, std::string_view activation,
                  const std::optional<at::Tensor>& residual) {
  static const auto op = find<decltype(linear)>("linear");
  return op.call(x, weight, bias, activation, residual);
}

at::Tensor swiglu(const at::Tensor& x) {
  static const auto op = find<decltype(swiglu)>("swiglu");
  return op.call(x);
}

at::Tensor attention(const at::Tensor& qkv, const at::Tensor& positions, at::Tensor cache,
                     at::TensorList plan, int64_t num_heads, int64_t num_kv_heads, double scale,
                     const std::optional<at::Tensor>& rope,
                     const std::optional<at::Tensor>& alibi_slopes, int64_t window) {
  static const auto op = find<decltype(attention)>("attention");
  return op.call(qkv, positions, std::move(cache), plan, num_heads, num_kv_heads, scale, rope,
                 alibi_slopes, window);
}

at::Tensor select_rows(const at::Tensor& x, at::TensorList plan) {
  static const auto op = find<decltype(select_rows)>("select_rows");
  return op.call(x, plan);
}

at::Tensor logits(const at::Tensor& x, const at::Tensor& weight) {
  static const auto op = find<decltype(logits)>("logits");
  return op.call(x, weight);
}

}  // namespace sluice::kernels
