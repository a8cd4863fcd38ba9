#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/lanes.h"

// Rotates queries and keys, and writes keys and values into the cache.
namespace sluice::kernels::cpu::simd {

// Offset of (d, slot) in a group of `width` keys.
template <typename T>
static inline int64_t key_offset(int64_t d, int64_t lane, int64_t width) {
  if constexpr (__is_same(T, Brain)) return (d / 2 * width + lane) * 2 + d % 2;
  return d * width + lane;
}

// cosine[i], sine[i] of one position, i < D_rot / 2.
struct Rotation {
  float cosine[kMaxHeadSize / 2];
  float sine[kMaxHeadSize / 2];
};

// head [D], its first 2 half numbers rotated in the half-split convention.
template <typename V, typename T, typename Out>
inline void rotate_head(const T* x, const Rotation& rotation, int64_t half, int64_t head_size,
                        Out* head) {
  for_each_vector<V>(x + 2 * half, head_size - 2 * half, [&](V value, int64_t i, int lanes) {
    store_lanes(value, head + 2 * half + i, lanes);
  });
  for_each_vector<V>(x, half, [&](V first, int64_t i, int lanes) {
    const V second = load_lanes<V>(x + half + i, lanes);
    const V cosine = load_lanes<V>(rotation.cosine + i, lanes);
    const V sine = load_lanes<V>(rotation.sine + i, lanes);
    store_lanes(V::fma(first, cosine, V::zero() - second * sine), head + i, lanes);
    store_lanes(V::fma(second, cosine, first * sine), head + half + i, lanes);
  });
}

// Values slot by slot; queries stay in float32.
template <typename T>
struct PlainValues {
  using Query = float;

  static void write(T* values, int64_t slot, const T* value, int64_t head_size) {
    for (int64_t d = 0; d < head_size; ++d) values[slot * head_size + d] = value[d];
  }
};

template <typename V, typename T, typename Values>
inline void write_slot(const AttentionArgs& args, const T* key, const T* value, T* block,
                       int64_t slot) {
  const int64_t left = args.block_size - slot / 16 * 16;
  const int64_t width = left < 16 ? left : 16;
  T* group = block + slot / 16 * 16 * args.head_size;
  for (int64_t d = 0; d < args.head_size; ++d) group[key_offset<T>(d, slot % 16, width)] = key[d];
  Values::write(block + args.block_size * args.head_size, slot, value, args.head_size);
}

template <typename V, typename T, typename Values>
inline void write_kv(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                     int64_t num_rows) {
  const int64_t size = args.head_size;
  const int64_t half = args.rotary_size / 2;
  const int64_t start = args.starts[sequence];
  const int64_t context_before = args.contexts[sequence] - (args.starts[sequence + 1] - start);
  const int64_t block_elements = args.block_size * 2 * size;
  Rotation rotation;
  alignas(64) T key[kMaxHeadSize];
  for (int64_t row = first_row; row < first_row + num_rows; ++row) {
    const int64_t token = start + row;
    for (int64_t i = 0; i < half; ++i) {
      const float* angle = args.rope + (args.positions[token] * half + i) * 2;
      rotation.cosine[i] = angle[0];
      rotation.sine[i] = angle[1];
    }
    const T* x =
        static_cast<const T*>(args.qkv) + token * (args.num_heads + 2 * args.num_kv_heads) * size;
    auto* query =
        static_cast<typename Values::Query*>(args.queries) + token * args.num_heads * size;
    for (int64_t h = 0; h < args.num_heads; ++h) {
      rotate_head<V>(x + h * size, rotation, half, size, query + h * size);
    }
    const T* keys = x + args.num_heads * size;
    const T* values = keys + args.num_kv_heads * size;
    const int64_t position = context_before + row;
    const int64_t block = args.tables[sequence * args.max_blocks + position / args.block_size];
    T* blocks = static_cast<T*>(args.cache) + block * args.num_kv_heads * block_elements;
    for (int64_t h = 0; h < args.num_kv_heads; ++h) {
      rotate_head<V>(keys + h * size, rotation, half, size, key);
      write_slot<V, T, Values>(args, key, values + h * size, blocks + h * block_elements,
                               position % args.block_size);
    }
  }
}

}  // namespace sluice::kernels::cpu::simd
