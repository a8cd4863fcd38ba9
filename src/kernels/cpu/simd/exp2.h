#pragma once

namespace sluice::kernels::cpu::simd {

// 2^r for r in [0, 1), exactly 1 at 0: a minimax polynomial of degree 5 within 1.7e-7 of the value.
template <typename V>
inline V exp2_fraction(V r) {
  V p = V::set(1.8671300495e-3f);
  p = V::fma(p, r, V::set(9.0170307085e-3f));
  p = V::fma(p, r, V::set(5.5799912661e-2f));
  p = V::fma(p, r, V::set(2.4016444385e-1f));
  p = V::fma(p, r, V::set(6.9315129519e-1f));
  return V::fma(p, r, V::set(1.0f));
}

}  // namespace sluice::kernels::cpu::simd
