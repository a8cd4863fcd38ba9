#include "kernels/backends.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <cmath>
#include <functional>

#include "kernels/checks.h"
#include "kernels/compute.h"
#include "kernels/operators.h"
#include "kernels/packed_handle.h"

namespace sluice::kernels::cpu {
namespace {

const at::Tensor& plain(const at::Tensor& weight) {
  const PackedWeight* packed = packed_weight(weight);
  return packed == nullptr ? weight : packed->rows;
}

float activate(float x, Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kGeluTanh:
      return x / (1.0f + std::exp(-2.0f * 0.7978845608f * (x + 0.044715f * x * x * x)));
    case Activation::kGelu:
      return 0.5f * x * (1.0f + std::erf(x * 0.70710678f));
    case Activation::kSilu:
      return x / (1.0f + std::exp(-x));
    case Activation::kRelu:
      return x > 0 ? x : 0;
  }
  return x;
}

template <typename T>
float dot(const T* x, const T* w, int64_t n) {
  float sums[16] = {};
  int64_t k = 0;
  for (; k + 16 <= n; k += 16) {
    for (int lane = 0; lane < 16; ++lane) {
      sums[lane] += static_cast<float>(x[k + lane]) * static_cast<float>(w[k + lane]);
    }
  }
  float total = 0;
  for (float sum : sums) total += sum;
  for (; k < n; ++k) total += static_cast<float>(x[k]) * static_cast<float>(w[k]);
  return total;
}

}  // namespace

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& weight) {
  check_embed(tokens, weight);
  return plain(weight).index_select(0, tokens);
}

at::Tensor linear_impl(const at::Tensor& x, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, Activation activation,
                       const std::optional<at::Tensor>& residual, at::ScalarType type) {
  check_linear(x, weight, bias, residual);
  const at::Tensor& w = plain(weight);
  const int64_t n = w.size(0), k = w.size(1), m = x.size(0);
  at::Tensor y = at::empty({m, n}, x.options().dtype(type));
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "linear", [&] {
    const auto* xp = x.const_data_ptr<scalar_t>();
    const auto* wp = w.const_data_ptr<scalar_t>();
    const auto* bp = bias ? bias->const_data_ptr<scalar_t>() : nullptr;
    const auto* rp = residual ? residual->const_data_ptr<scalar_t>() : nullptr;
    void* yp = y.data_ptr();
    auto body = [&](int64_t task) {
      for (int64_t j = task * 64; j < std::min(n, task * 64 + 64); ++j) {
        for (int64_t i = 0; i < m; ++i) {
          float v = dot(xp + i * k, wp + j * k, k);
          if (bp) v += static_cast<float>(bp[j]);
          v = activate(v, activation);
          if (rp) v += static_cast<float>(rp[i * n + j]);
          if (type == at::kFloat) {
            static_cast<float*>(yp)[i * n + j] = v;
          } else {
            static_cast<scalar_t*>(yp)[i * n + j] = static_cast<scalar_t>(v);
          }
        }
      }
    };
    parallel_for((n + 63) / 64, std::ref(body));
  });
  return y;
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, std::string_view activation,
                  const std::optional<at::Tensor>& residual) {
  return linear_impl(x, weight, bias, parse_activation(activation), residual, x.scalar_type());
}

at::Tensor logits(const at::Tensor& x, const at::Tensor& weight) {
  return linear_impl(x, weight, std::nullopt, Activation::kNone, std::nullopt, at::kFloat);
}

void register_backend(torch::Library& library) {
  library.impl("embed", &embed);
  library.impl("linear", &linear);
  library.impl("logits", &logits);
}

}  // namespace sluice::kernels::cpu
