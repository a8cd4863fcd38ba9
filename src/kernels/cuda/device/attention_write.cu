#include "kernels/cuda/device/attention.h"
#include "kernels/kv_int8.h"

// The first of attention's kernels: what comes from qkv goes to the cache and, rotated, to the
// workspace. One warp a head of a row.
namespace sluice::kernels::cuda {
namespace {

constexpr int kWriteWarps = 4;

// Number i of a head [D] whose first 2 `half` numbers are rotated; cosine and sine of pair k are at
// angles[k], NaN without any. With three roundings, as the reference has them.
template <typename T>
__device__ inline float rotated(const T* head, const float2* angles, int half, int i) {
  const float x = to_float(head[i]);
  if (i < 2 * half && angles == nullptr) return __uint_as_float(0x7fffffffu);
  if (i < half) {
    const float2 angle = angles[i];
    return x * angle.x - to_float(head[i + half]) * angle.y;
  }
  if (i < 2 * half) {
    const float2 angle = angles[i - half];
    return x * angle.x + to_float(head[i - half]) * angle.y;
  }
  return x;
}

// Such a head as numbers of 8 bits, and their scale (kv_int8.h, kv_float8.h): of `scales`, pairs of
// a key's and a value's, number `scale_index`.
template <typename T, typename C>
__device__ inline void quantize_head(const T* head, const float2* angles, int half, int size,
                                     C* numbers, void* scales, int scale_index) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  float largest = 0;
  float poison = 0;  // NaN if any number is not finite
  for (int i = lane; i < size; i += kWarpThreads) {
    const float x = rotated(head, angles, half, i);
    largest = fmaxf(largest, fabsf(x));
    poison += x * 0.0f;
  }
  for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
    largest = fmaxf(largest, warp_shuffle_xor(largest, mask));
    poison += warp_shuffle_xor(poison, mask);
  }
  largest += poison;
  if constexpr (__is_same(C, Float8)) {
    const uint8_t scale = float8_scale(largest);
    for (int i = lane; i < size; i += kWarpThreads) {
      numbers[i] = nearest_float8(unscaled_float8(rotated(head, angles, half, i), scale));
    }
    if (lane == 0) static_cast<uint8_t*>(scales)[scale_index] = scale;
  } else {
    const float inverse = largest >= kSmallestQuantized ? 127.0f / largest : 0.0f;
    for (int i = lane; i < size; i += kWarpThreads) {
      const float x = rotated(head, angles, half, i);
      numbers[i] = static_cast<int8_t>(__float2int_rn(x * inverse));
    }
    if (lane == 0) static_cast<float*>(scales)[scale_index] = largest * kInt8Step;
  }
}

template <typename T, typename C>
__device__ inline void write_slot(const AttentionStep& step, int token, int kv_head, bool is_value,
                                  const T* head, const float2* angles, int half) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int sequence = find_sequence(step, token);
  const int position = position_of(step, sequence, token);
  const int block = step.tables[int64_t{sequence} * step.max_blocks + position / step.block_size];
  const int slot = position % step.block_size;
  const int size = step.head_size;
  auto* keys = static_cast<unsigned char*>(step.cache) + head_offset<C>(step, block, kv_head);
  C* numbers = reinterpret_cast<C*>(keys) + (int64_t{2} * slot + (is_value ? 1 : 0)) * size;
  if constexpr (sizeof(C) == 1) {
    quantize_head(head, angles, half, size, numbers, keys + int64_t{2} * step.block_size * size,
                  2 * slot + (is_value ? 1 : 0));
  } else {
    for (int i = lane; i < size; i += kWarpThreads) {
      numbers[i] = from_float<C>(rotated(head, angles, half, i));
    }
  }
}

// Grid: rows in x; heads from `first_head` on in y, kWriteWarps a block.
template <typename T, typename C>
__global__ void write_kernel(const Awaited<AttentionStep> given, int first_head) {
  const AttentionStep& step = given.wait();
  const int token = static_cast<int>(blockIdx.x);
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int heads = step.num_heads + 2 * step.num_kv_heads;
  const int head = first_head + static_cast<int>(blockIdx.y) * kWriteWarps + warp;
  if (head >= heads) return;
  const int size = step.head_size;
  const T* x = static_cast<const T*>(step.qkv) + (int64_t{token} * heads + head) * size;
  const bool is_value = head >= step.num_heads + step.num_kv_heads;
  const int half = is_value ? 0 : step.rotary_size / 2;
  const float2* angles = nullptr;
  const int position = step.positions[token];
  if (half > 0 && position >= 0 && position < step.rotary_positions) {
    angles = reinterpret_cast<const float2*>(step.rope) + int64_t{position} * half;
  }
  if (head < step.num_heads) {
    T* query = static_cast<T*>(step.rotated) + (int64_t{token} * step.num_heads + head) * size;
    for (int i = lane; i < size; i += kWarpThreads) {
      query[i] = from_float<T>(rotated(x, angles, half, i));
    }
  } else {
    const int kv_head = (head - step.num_heads) % step.num_kv_heads;
    write_slot<T, C>(step, token, kv_head, is_value, x, angles, half);
  }
}

template <typename T>
Status write_as(const AttentionArgs& args, const AttentionStep& step, Stream stream) {
  // Queries that nothing rotates are read where they are.
  const int first_head = step.rotated == nullptr ? step.num_heads : 0;
  const int heads = step.num_heads + 2 * step.num_kv_heads - first_head;
  const Grid grid{.blocks = dim3(static_cast<unsigned>(step.num_tokens),
                                 static_cast<unsigned>((heads + kWriteWarps - 1) / kWriteWarps)),
                  .threads = kWriteWarps * kWarpThreads,
                  .block_memory_bytes = 0};
  switch (args.cache_format) {
    case KvFormat::kInt8:
      return launch(&write_kernel<T, int8_t>, grid, stream, step, first_head);
    case KvFormat::kFloat8:
      return launch(&write_kernel<T, Float8>, grid, stream, step, first_head);
    case KvFormat::kModel:
      break;
  }
  return launch(&write_kernel<T, T>, grid, stream, step, first_head);
}

}  // namespace

Status write_cache(const AttentionArgs& args, const AttentionStep& step, Stream stream) {
  switch (args.type) {
    case DType::kF32:
      return write_as<float>(args, step, stream);
    case DType::kF16:
      return write_as<Half>(args, step, stream);
    case DType::kBF16:
      break;
  }
  return write_as<BFloat16>(args, step, stream);
}

}  // namespace sluice::kernels::cuda
