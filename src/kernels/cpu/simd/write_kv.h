#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd/lanes.h"
#include "kernels/cpu/simd/prefetch.h"
#include "kernels/cpu/simd/query_rows.h"
#include "kernels/cpu/simd/transpose.h"

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

// x [D] as int8 numbers; returns their scale (kv_int8.h). A NaN or an infinity makes it one.
template <typename V>
inline float quantize_head(const float* x, int64_t head_size, int8_t* numbers) {
  V most = V::zero();
  V poison = V::zero();
  for_each_vector<V>(x, head_size, [&](V value, int64_t, int) {
    most = V::max(V::abs(value), most);
    poison = poison + value * V::zero();
  });
  const float largest = V::largest(most) + V::sum(poison);
  const V inverse = V::set(largest >= kSmallestQuantized ? 127.0f / largest : 0.0f);
  for_each_vector<V>(x, head_size, [&](V value, int64_t i, int lanes) {
    store_lanes(value * inverse, numbers + i, lanes);
  });
  return largest * kInt8Step;
}

// Up to sixteen slots of one group and one KV head, on their way into a cache of C.
template <typename C>
struct SlotRows {
  const C* key[16];  // [D] each
  const C* value[16];
  // Where `key` and `value` point to if what was given had to be rotated or rounded.
  alignas(64) C keys[16][kMaxHeadSize];
  alignas(64) C values[16][kMaxHeadSize];
};

// Slot by slot, any D and S; queries stay in float32.
template <typename C>
struct PlainLayout {
  using Query = float;

  // Slots [slot, slot + count) of a block; `width` slots are in their group.
  static void write(const SlotRows<C>& rows, int64_t count, int64_t slot, int64_t width,
                    int64_t head_size, C* group, C* values) {
    const int64_t lane = slot % 16;
    for (int64_t i = 0; i < count; ++i) {
      __builtin_memcpy(values + (lane + i) * head_size, rows.value[i], head_size * sizeof(C));
    }
    if constexpr (__is_same(C, Brain) || __is_same(C, float)) {
      scatter_words(rows.key, count, lane, width, head_size, group);
    } else {
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t d = 0; d < head_size; ++d) {
          group[key_offset<C>(d, lane + i, width)] = rows.key[i][d];
        }
      }
    }
  }
};

// Brings slot i's key and value, given as T, into the cache's form.
template <typename V, typename T, typename C>
inline void convert_slot(const AttentionArgs& args, const T* key, const T* value,
                         const Rotation& rotation, SlotRows<C>& rows, int64_t i, float* scales) {
  const int64_t size = args.head_size;
  const int64_t half = args.rotary_size / 2;
  rows.key[i] = rows.keys[i];
  rows.value[i] = rows.values[i];
  if constexpr (__is_same(C, int8_t)) {
    alignas(64) float wide[kMaxHeadSize];
    rotate_head<V>(key, rotation, half, size, wide);
    scales[0] = quantize_head<V>(wide, size, rows.keys[i]);
    rotate_head<V>(value, rotation, 0, size, wide);
    scales[args.block_size] = quantize_head<V>(wide, size, rows.values[i]);
  } else {
    rows.value[i] = value;
    if (half == 0) {
      rows.key[i] = key;
    } else {
      rotate_head<V>(key, rotation, half, size, rows.keys[i]);
    }
  }
}

// `count` slots of one block and group. keys: of the first row's first KV head.
template <typename V, typename T, typename C, typename Layout>
inline void write_slots(const AttentionArgs& args, const T* keys, const Rotation* rotations,
                        int64_t count, int64_t slot, C* block, SlotRows<C>& rows) {
  const int64_t size = args.head_size;
  const int64_t stride = (args.num_heads + 2 * args.num_kv_heads) * size;
  const int64_t left = args.block_size - slot / 16 * 16;
  const int64_t width = left < 16 ? left : 16;
  const int64_t group = slot / 16 * 16 * size;
  for (int64_t h = 0; h < args.num_kv_heads; ++h, keys += size, block += head_elements<C>(args)) {
    // A decode's slot lies in lines all over the group, and attention reads the group next.
    if (count == 1 && h + 1 < args.num_kv_heads) {
      prefetch(block + head_elements<C>(args) + group,
               width * size * static_cast<int64_t>(sizeof(C)));
    }
    float* scales = nullptr;
    if constexpr (__is_same(C, int8_t)) scales = scales_of(block, args.block_size, size) + slot;
    for (int64_t i = 0; i < count; ++i) {
      const T* key = keys + i * stride;
      convert_slot<V, T, C>(args, key, key + args.num_kv_heads * size, rotations[i], rows, i,
                            scales + i);
    }
    Layout::write(rows, count, slot, width, size, block + group,
                  block + args.block_size * size + group);
  }
}

template <typename V, typename T, typename C, typename Layout>
inline void write_kv(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                     int64_t num_rows) {
  const int64_t size = args.head_size;
  const int64_t half = args.rotary_size / 2;
  const int64_t start = args.starts[sequence];
  const int64_t before = args.contexts[sequence] - (args.starts[sequence + 1] - start);
  const int64_t stride = (args.num_heads + 2 * args.num_kv_heads) * size;
  const T* qkv = static_cast<const T*>(args.qkv) + (start + first_row) * stride;
  auto* query = static_cast<typename Layout::Query*>(args.queries) +
                (start + first_row) * args.num_heads * size;
  Rotation rotations[16];
  SlotRows<C> rows;
  for (int64_t i = 0; i < num_rows; ++i) {
    for (int64_t k = 0; k < half; ++k) {
      const float* angle = args.rope + (args.positions[start + first_row + i] * half + k) * 2;
      rotations[i].cosine[k] = angle[0];
      rotations[i].sine[k] = angle[1];
    }
    const T* heads = qkv + i * stride;
    auto* rotated = query + i * args.num_heads * size;
    if (half == 0 && __is_same(T, typename Layout::Query)) {
      __builtin_memcpy(rotated, heads, args.num_heads * size * sizeof(T));
      continue;
    }
    for (int64_t h = 0; h < args.num_heads; ++h) {
      rotate_head<V>(heads + h * size, rotations[i], half, size, rotated + h * size);
    }
  }
  for (int64_t i = 0; i < num_rows;) {
    const int64_t position = before + first_row + i;
    const int64_t slot = position % args.block_size;
    const int64_t group_end = slot / 16 * 16 + 16;
    const int64_t room = (group_end < args.block_size ? group_end : args.block_size) - slot;
    const int64_t count = room < num_rows - i ? room : num_rows - i;
    const int64_t block = args.tables[sequence * args.max_blocks + position / args.block_size];
    write_slots<V, T, C, Layout>(
        args, qkv + i * stride + args.num_heads * size, rotations + i, count, slot,
        static_cast<C*>(args.cache) + block * args.num_kv_heads * head_elements<C>(args), rows);
    i += count;
  }
}

}  // namespace sluice::kernels::cpu::simd
