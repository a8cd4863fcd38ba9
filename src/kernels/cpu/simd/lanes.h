#pragma once

#include <cstdint>

// Full vectors and tails: the same arithmetic, with a count where lanes are missing.
namespace sluice::kernels::cpu::simd {

// Calls visit(vector, offset, lanes) over `size` elements of p.
template <typename V, typename T, typename Visit>
inline void for_each_vector(const T* p, int64_t size, Visit visit) {
  int64_t i = 0;
  for (; i + 16 <= size; i += 16) visit(V::load(p + i), i, 16);
  if (i < size) visit(V::load(p + i, static_cast<int>(size - i)), i, static_cast<int>(size - i));
}

template <typename V, typename T>
inline V load_lanes(const T* p, int lanes) {
  return lanes == 16 ? V::load(p) : V::load(p, lanes);
}

template <typename V, typename T>
inline void store_lanes(V x, T* p, int lanes) {
  if (lanes == 16) {
    x.store(p);
  } else {
    x.store(p, lanes);
  }
}

}  // namespace sluice::kernels::cpu::simd
