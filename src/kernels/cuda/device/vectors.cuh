#pragma once

#include "kernels/cuda/device/intrinsics.cuh"

// What kernels that go over rows share: 16 bytes of a row at a time, and the step from a DType to a
// type.
namespace sluice::kernels::cuda {

// As many numbers as 16 bytes hold.
template <typename T>
struct alignas(16) Vector {
  static constexpr int kSize = 16 / sizeof(T);
  T of[kSize];
};

template <typename T>
__device__ inline Vector<T> load_vector(const T* aligned) {
  const uint4 bits = *reinterpret_cast<const uint4*>(aligned);
  Vector<T> vector;
  memcpy(&vector, &bits, sizeof(bits));
  return vector;
}

template <typename T>
__device__ inline void store_vector(T* aligned, const Vector<T>& vector) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == 4) {
      memcpy(&words[i], &vector.of[i], 4);
    } else {
      uint16_t low;
      uint16_t high;
      memcpy(&low, &vector.of[2 * i], 2);
      memcpy(&high, &vector.of[2 * i + 1], 2);
      words[i] = static_cast<uint32_t>(high) << 16 | low;
    }
  }
  store_16_bytes(aligned, make_uint4(words[0], words[1], words[2], words[3]));
}

// A vector of a row of `size` numbers, zeros past its end. Rows that are not aligned are read
// number by number.
template <typename T, bool kIsAligned>
__device__ inline Vector<T> load_part(const T* row, int64_t first, int64_t size) {
  if (kIsAligned && first + Vector<T>::kSize <= size) return load_vector(row + first);
  Vector<T> vector;
  for (int n = 0; n < Vector<T>::kSize; ++n) {
    vector.of[n] = first + n < size ? row[first + n] : from_float<T>(0.0f);
  }
  return vector;
}

template <typename T, bool kIsAligned>
__device__ inline void store_part(T* row, int64_t first, int64_t size, const Vector<T>& vector) {
  if (kIsAligned && first + Vector<T>::kSize <= size) {
    store_vector(row + first, vector);
    return;
  }
  for (int n = 0; n < Vector<T>::kSize && first + n < size; ++n) row[first + n] = vector.of[n];
}

inline bool is_multiple_of_16(int64_t bytes) {
  return bytes % 16 == 0;
}
inline bool is_multiple_of_16(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0;
}

// body.operator()<T>() for the type's T.
template <typename Body>
Status with_type(DType type, const Body& body) {
  switch (type) {
    case DType::kF32:
      return body.template operator()<float>();
    case DType::kF16:
      return body.template operator()<Half>();
    case DType::kBF16:
      return body.template operator()<BFloat16>();
  }
  return kNotSupported;
}

}  // namespace sluice::kernels::cuda
