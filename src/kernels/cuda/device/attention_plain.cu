#include "kernels/cuda/device/attention.h"

// Attention without matrix units, for float32 and for head sizes and blocks that 16-byte copies do
// not fit: any even D. One warp a query vector; heads that share keys each read them.
namespace sluice::kernels::cuda {
namespace {

constexpr int kPlainWarps = 4;

// A warp's share of the block's memory: a query, sums of weighted values, merged ones, [D] each;
// and of 32 keys where they lie and their weights.
struct KeyWeight {
  int64_t offset;  // in the cache, in numbers
  float weight;
};
__host__ __device__ constexpr int plain_bytes(int head_size) {
  return 3 * head_size * static_cast<int>(sizeof(float)) +
         kWarpThreads * static_cast<int>(sizeof(KeyWeight));
}

__device__ inline float2 load_pair(const float* x) {
  return *reinterpret_cast<const float2*>(x);
}
template <typename C>
__device__ inline float2 load_pair(const C* x) {
  if constexpr (__is_same(C, int8_t)) {
    return make_float2(static_cast<float>(x[0]), static_cast<float>(x[1]));
  } else if constexpr (__is_same(C, Float8)) {
    return make_float2(from_float8(x[0]), from_float8(x[1]));
  } else {
    return make_float2(to_float(x[0]), to_float(x[1]));
  }
}

// A query vector's way over its keys, 32 at a time: a lane has a key's score and weight, and of the
// sums numbers 2 lane + 64 i and the one after it, each in the block's memory.
template <typename T, typename C>
class PlainAttention {
 public:
  __device__ PlainAttention(const AttentionStep& step, int sequence, int token, int head)
      : step_(step),
        table_(step.tables + int64_t{sequence} * step.max_blocks),
        token_(token),
        head_(head),
        position_(position_of(step, sequence, token)),
        lane_(static_cast<int>(threadIdx.x) % kWarpThreads) {
    const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
    query_ = reinterpret_cast<float*>(block_memory() + warp * plain_bytes(step.head_size));
    sums_ = query_ + step.head_size;
    merged_ = sums_ + step.head_size;
    keys_ = reinterpret_cast<KeyWeight*>(merged_ + step.head_size);
    const T* query = static_cast<const T*>(step.queries) + token * step.query_stride +
                     int64_t{head} * step.head_size;
    for_own_numbers([&](int i) {
      const float2 numbers = load_pair(query + i);
      query_[i] = numbers.x;
      query_[i + 1] = numbers.y;
      sums_[i] = sums_[i + 1] = merged_[i] = merged_[i + 1] = 0;
    });
    slope_ = step.slopes == nullptr ? 0 : step.slopes[head] * kLog2E;
    warp_barrier();
  }

  __device__ RowSpan span() const { return row_span(step_, position_); }

  // The keys of a part.
  __device__ void add_part(const RowSpan& part) {
    for (int tile = part.first / kWarpThreads * kWarpThreads; tile < part.last;
         tile += kWarpThreads) {
      add_tile(tile, max(part.first - tile, 0), min(part.last - tile, kWarpThreads));
    }
  }

  __device__ Softmax end_part() {
    Softmax part = softmax_;
    for (int mask = 1; mask < kWarpThreads; mask *= 2) {
      part.total += warp_shuffle_xor(part.total, mask);
    }
    softmax_ = {};
    return part;
  }

  __device__ void merge_part(Softmax& state, const Softmax& part) {
    MergeFactors factors;
    const bool counts = part.total != 0.0f;
    if (counts) factors = merge(state, part);
    for_own_numbers([&](int i) {
      for (int j = i; j < i + 2; ++j) {
        if (counts) merged_[j] = merge_value(merged_[j], sums_[j], factors);
        sums_[j] = 0;
      }
    });
  }

  __device__ void store_part(const Softmax& part, int64_t index) {
    if (lane_ == 0) step_.part_softmax[index] = make_float2(part.largest, part.total);
    for_own_numbers([&](int i) {
      *reinterpret_cast<float2*>(step_.part_values + index * step_.head_size + i) =
          make_float2(sums_[i], sums_[i + 1]);
    });
  }

  __device__ void store_output(const Softmax& state) {
    const float factor = output_factor(step_, state);
    T* output = static_cast<T*>(step_.output) +
                (int64_t{token_} * step_.num_heads + head_) * step_.head_size;
    for_own_numbers([&](int i) {
      output[i] = from_float<T>(merged_[i] * factor);
      output[i + 1] = from_float<T>(merged_[i + 1] * factor);
    });
  }

 private:
  template <typename Use>
  __device__ void for_own_numbers(Use use) const {
    for (int i = 2 * lane_; i < step_.head_size; i += 2 * kWarpThreads) use(i);
  }

  // Keys [first, last) of the 32 from `tile` on.
  __device__ void add_tile(int tile, int first, int last) {
    const int key = tile + lane_;
    const bool is_seen = lane_ >= first && lane_ < last;
    int64_t offset = 0;  // of the lane's key in the cache, in numbers
    float2 scales = make_float2(1, 1);
    float score = kNothing;
    if (is_seen) {
      const int slot = key % step_.block_size;
      const int64_t head =
          head_offset<C>(step_, table_[key / step_.block_size], head_ / step_.sharing) /
          static_cast<int64_t>(sizeof(C));
      offset = head + int64_t{2} * slot * step_.head_size;
      if constexpr (sizeof(C) == 1) {
        const C* all = static_cast<const C*>(step_.cache) + head +
                       int64_t{2} * step_.block_size * step_.head_size;
        scales = CacheNumbers<C>::values(CacheNumbers<C>::load(all, slot));
      }
      score = product(static_cast<const C*>(step_.cache) + offset) * (step_.scale * scales.x);
      if (step_.slopes != nullptr) {
        score = fmaf(slope_, static_cast<float>(key - position_), score);
      }
    }
    float largest = fmaxf(softmax_.largest, score);
    for (int mask = 1; mask < kWarpThreads; mask *= 2) {
      largest = fmaxf(largest, warp_shuffle_xor(largest, mask));
    }
    const float bound = largest == kNothing ? 0.0f : largest;
    const float factor = fast_exp2(softmax_.largest - bound);
    const float weight = fast_exp2(score - bound);
    softmax_.largest = largest;
    softmax_.total = softmax_.total * factor + weight;
    keys_[lane_] = {offset, is_seen ? weight * scales.y : 0.0f};
    warp_barrier();
    add_values(factor, first, last);
    warp_barrier();
  }

  __device__ float product(const C* key) const {
    float sum = 0;
#pragma unroll 4
    for (int i = 0; i < step_.head_size; i += 2) {
      const float2 numbers = load_pair(key + i);
      sum = fmaf(query_[i], numbers.x, sum);
      sum = fmaf(query_[i + 1], numbers.y, sum);
    }
    return sum;
  }

  __device__ void add_values(float factor, int first, int last) {
    const C* values = static_cast<const C*>(step_.cache) + step_.head_size;
    for_own_numbers([&](int i) {
      float2 sum = make_float2(sums_[i] * factor, sums_[i + 1] * factor);
#pragma unroll 4
      for (int key = first; key < last; ++key) {
        const KeyWeight own = keys_[key];
        const float2 numbers = load_pair(values + own.offset + i);
        sum.x = fmaf(own.weight, numbers.x, sum.x);
        sum.y = fmaf(own.weight, numbers.y, sum.y);
      }
      sums_[i] = sum.x;
      sums_[i + 1] = sum.y;
    });
  }

  const AttentionStep& step_;
  const int32_t* table_;
  const int token_;
  const int head_;
  const int position_;
  const int lane_;
  float slope_ = 0;
  float* query_ = nullptr;
  float* sums_ = nullptr;
  float* merged_ = nullptr;
  KeyWeight* keys_ = nullptr;
  Softmax softmax_;  // of the part; the total of the lane's own keys
};

// Rows by parts. Grid: rows in x, as AttentionStep counts them; heads in y, kPlainWarps a block;
// parts in z.
template <typename T, typename C>
__global__ void plain_parts_kernel(const Awaited<AttentionStep> given) {
  const AttentionStep& step = given.wait();
  const int row = static_cast<int>(blockIdx.x);
  const int head =
      static_cast<int>(blockIdx.y) * kPlainWarps + static_cast<int>(threadIdx.x) / kWarpThreads;
  if (head >= step.num_heads) return;
  const int sequence = step.all_by_parts ? find_sequence(step, row) : row;
  const int token = step.all_by_parts ? row : step.starts[sequence];
  if (!step.all_by_parts && step.starts[sequence + 1] - token != 1) return;
  const int index = static_cast<int>(blockIdx.z);
  PlainAttention<T, C> attention(step, sequence, token, head);
  const RowSpan span = attention.span();
  if (index >= num_parts(span)) return;
  attention.add_part(part_of(span, index));
  const Softmax part = attention.end_part();
  if (num_parts(span) == 1) {
    Softmax state;
    attention.merge_part(state, part);
    attention.store_output(state);
  } else {
    attention.store_part(part, (int64_t{row} * step.num_heads + head) * step.max_parts + index);
  }
}

// Rows of chunks. Grid: rows of the step in x, the last ones first as they see most; heads in y.
template <typename T, typename C>
__global__ void plain_chunks_kernel(const Awaited<AttentionStep> given) {
  const AttentionStep& step = given.wait();
  const int token = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const int head =
      static_cast<int>(blockIdx.y) * kPlainWarps + static_cast<int>(threadIdx.x) / kWarpThreads;
  if (head >= step.num_heads) return;
  const int sequence = find_sequence(step, token);
  if (step.starts[sequence + 1] - step.starts[sequence] == 1) return;
  PlainAttention<T, C> attention(step, sequence, token, head);
  const RowSpan span = attention.span();
  Softmax state;
  for (int i = 0; i < num_parts(span); ++i) {
    attention.add_part(part_of(span, i));
    attention.merge_part(state, attention.end_part());
  }
  attention.store_output(state);
}

template <typename T, typename C>
Status attend_plain_as(const AttentionStep& step, Stream stream) {
  Grid grid{
      .blocks = dim3(1, static_cast<unsigned>((step.num_heads + kPlainWarps - 1) / kPlainWarps)),
      .threads = kPlainWarps * kWarpThreads,
      .block_memory_bytes =
          static_cast<size_t>(kPlainWarps) * static_cast<size_t>(plain_bytes(step.head_size))};
  if (step.all_by_parts || step.num_sequences > 1) {
    grid.blocks.x = static_cast<unsigned>(step.all_by_parts ? step.num_tokens : step.num_sequences);
    grid.blocks.z = static_cast<unsigned>(step.max_parts);
    const Status status = launch(&plain_parts_kernel<T, C>, grid, stream, step);
    if (status != kSuccess || step.all_by_parts) return status;
  }
  grid.blocks.x = static_cast<unsigned>(step.num_tokens);
  grid.blocks.z = 1;
  return launch(&plain_chunks_kernel<T, C>, grid, stream, step);
}

template <typename T>
Status attend_plain_of(const AttentionArgs& args, const AttentionStep& step, Stream stream) {
  switch (args.cache_format) {
    case KvFormat::kInt8:
      return attend_plain_as<T, int8_t>(step, stream);
    case KvFormat::kFloat8:
      return attend_plain_as<T, Float8>(step, stream);
    case KvFormat::kModel:
      break;
  }
  return attend_plain_as<T, T>(step, stream);
}

}  // namespace

Status attend_plain(const AttentionArgs& args, const AttentionStep& step, Stream stream) {
  switch (args.type) {
    case DType::kF32:
      return attend_plain_of<float>(args, step, stream);
    case DType::kF16:
      return attend_plain_of<Half>(args, step, stream);
    case DType::kBF16:
      break;
  }
  return attend_plain_of<BFloat16>(args, step, stream);
}

}  // namespace sluice::kernels::cuda
