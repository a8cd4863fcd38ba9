#pragma once

#include "kernels/activation.h"

// Elementary functions over a vector type V (avx512::Vec or avx2::Vec). The arithmetic of a lane
// does not depend on the other lanes, so a full vector and a tail get the same bits.
namespace sluice::kernels::cpu::simd {

// e^x within 2 units in the last place; 0 below -87.33, and held at e^88.37 above that.
// Polynomial of Cephes' expf (Moshier) after a reduction by ln 2 in two parts.
template <typename V>
inline V exp(V x) {
  const V clamped = V::min(V::max(x, V::set(-87.33f)), V::set(88.37f));
  const V n = V::round(clamped * V::set(1.44269504088896341f));
  V r = V::fma(n, V::set(-0.693359375f), clamped);
  r = V::fma(n, V::set(2.12194440e-4f), r);
  V p = V::set(1.9875691500e-4f);
  p = V::fma(p, r, V::set(1.3981999507e-3f));
  p = V::fma(p, r, V::set(8.3334519073e-3f));
  p = V::fma(p, r, V::set(4.1665795894e-2f));
  p = V::fma(p, r, V::set(1.6666665459e-1f));
  p = V::fma(p, r, V::set(5.0000001201e-1f));
  p = V::fma(p, r * r, r) + V::set(1.0f);
  return V::zero_below(p * V::power_of_two(n), x, V::set(-87.33f));
}

// erf(x) within 5e-7. Rational approximation on [-4, 4], as in Eigen's generic_fast_erf_float.
template <typename V>
inline V erf(V x) {
  const V t = V::min(V::max(x, V::set(-4.0f)), V::set(4.0f));
  const V t2 = t * t;
  V p = V::set(-2.72614225801306e-10f);
  p = V::fma(p, t2, V::set(2.77068142495902e-08f));
  p = V::fma(p, t2, V::set(-2.10102402082508e-06f));
  p = V::fma(p, t2, V::set(-5.69250639462346e-05f));
  p = V::fma(p, t2, V::set(-7.34990630326855e-04f));
  p = V::fma(p, t2, V::set(-2.95459980854025e-03f));
  p = V::fma(p, t2, V::set(-1.60960333262415e-02f));
  V q = V::set(-1.45660718464996e-05f);
  q = V::fma(q, t2, V::set(-2.13374055278905e-04f));
  q = V::fma(q, t2, V::set(-1.68282697438203e-03f));
  q = V::fma(q, t2, V::set(-7.37332916720468e-03f));
  q = V::fma(q, t2, V::set(-1.42647390514189e-02f));
  return t * p / q;
}

// x / (1 + e^-x)
template <typename V>
inline V silu(V x) {
  return x / (V::set(1.0f) + exp(V::zero() - x));
}

// gelu_tanh is x / (1 + e^-2u) with u = sqrt(2 / pi) (x + 0.044715 x^3), which loses nothing to
// cancellation where tanh is near -1.
template <typename V, Activation kActivation>
inline V activate(V x) {
  if constexpr (kActivation == Activation::kGeluTanh) {
    const V cubic = V::fma(x * x * V::set(0.044715f), x, x);
    return x / (V::set(1.0f) + exp(cubic * V::set(-1.59576912160573f)));
  } else if constexpr (kActivation == Activation::kGelu) {
    const V half = x * V::set(0.5f);
    return V::fma(half, erf(x * V::set(0.70710678118654752f)), half);
  } else if constexpr (kActivation == Activation::kSilu) {
    return silu(x);
  } else if constexpr (kActivation == Activation::kRelu) {
    return V::max(x, V::zero());
  } else {
    return x;
  }
}

}  // namespace sluice::kernels::cpu::simd
