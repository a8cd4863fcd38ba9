#pragma once

#include "kernels/cuda/device/byte_numbers.cuh"
#include "kernels/cuda/device/sum_order.h"

// What attention's kernels share: their arguments, which keys a row sees, in which parts, and how
// the parts' results are put together.
//
// A row's keys fall into parts, each with an online softmax of its own over tiles of keys; the
// parts' results are merged in ascending order. Parts and tiles begin at multiples of their sizes,
// and sizes follow from the row's own position: so whether one block walks all of a row's parts or
// each part has a block, every number is computed from the same ones in the same order.
namespace sluice::kernels::cuda {

inline constexpr int kPartBits = 7;
inline constexpr int kPartKeys = 1 << kPartBits;  // at least; doubled until kMaxParts are enough
inline constexpr int kMaxPartsBits = 6;
inline constexpr int kMaxParts = 1 << kMaxPartsBits;
inline constexpr float kLog2E = 1.44269504088896341f;
inline constexpr float kNothing = -__builtin_huge_valf();  // the score of a key that is not seen

// An attention call. Scores are in units of ln 2, so that e^x is 2^score.
//
// A block and KV head of the cache hold S slots of a key's and a value's D numbers each; of 8-bit
// numbers, after all of these, S pairs of scales, of the slot's key and of its value.
struct AttentionStep {
  const void* qkv = nullptr;
  const int32_t* positions = nullptr;
  void* cache = nullptr;
  const int32_t* starts = nullptr;
  const int32_t* contexts = nullptr;
  const int32_t* tables = nullptr;
  const float* rope = nullptr;
  const float* slopes = nullptr;
  void* rotated = nullptr;        // [T, H, D], where there is a rope
  const void* queries = nullptr;  // [T, H, D], a row's first number query_stride after the last's
  int64_t query_stride = 0;
  // Of the rows that are shared out by parts (below): sums of weighted values
  // [rows, H, max_parts, D]; largest score and sum of the weights [rows, H, max_parts].
  float* part_values = nullptr;
  float2* part_softmax = nullptr;
  void* output = nullptr;
  int num_tokens = 0;
  int num_sequences = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int sharing = 0;  // query heads of a KV head
  int head_size = 0;
  int block_size = 0;
  int max_blocks = 0;
  int rotary_size = 0;
  int rotary_positions = 0;
  int window = 0;
  int max_parts = 0;
  // Every row is shared out by parts, or those only that are their sequence's only one. Then what
  // is above called a row is the token's index, or the sequence's.
  bool all_by_parts = false;
  int part_bits = kPartBits;  // without the fixed order: of the shortest part
  float scale = 1;
  float value_scale = 1;  // what the sums of weighted values lack
};

// The keys that a row sees, [first, last), and the length of its parts, 2^part_bits.
struct RowSpan {
  int first = 0;
  int last = 0;
  int part_bits = kPartBits;
};

__device__ inline RowSpan row_span(const AttentionStep& step, int position) {
  RowSpan span;
  span.last = position + 1;
  if (step.window > 0 && span.last > step.window) span.first = span.last - step.window;
  const int least = kFixedOrder ? kPartBits : step.part_bits;
  const int most = (span.last - span.first - 1) >> (least + kMaxPartsBits);
  span.part_bits = least + 32 - __clz(most);
  return span;
}

// Parts lie at multiples of their size: one more than kMaxParts may be needed where keys begin
// within one.
__device__ inline int num_parts(const RowSpan& span) {
  return ((span.last - 1) >> span.part_bits) - (span.first >> span.part_bits) + 1;
}

__device__ inline RowSpan part_of(const RowSpan& span, int index) {
  const int begin = ((span.first >> span.part_bits) + index) << span.part_bits;
  return {max(span.first, begin), min(span.last, begin + (1 << span.part_bits)), span.part_bits};
}

// Which vectors a block attends for: kVectors from first_vector on.
struct AttentionWork {
  int sequence = 0;
  int kv_head = 0;
  int first_vector = 0;
  int part = 0;  // of a kernel that does not walk
};

// A query vector, number `index` of its sequence and KV head.
struct QueryVector {
  bool is_valid = false;
  int token = 0;
  int head = 0;
  int position = 0;
  RowSpan span;  // all that it sees
};

__device__ inline QueryVector query_vector(const AttentionStep& step, const AttentionWork& work,
                                           int index) {
  QueryVector vector;
  const int end = step.starts[work.sequence + 1];
  vector.token = step.starts[work.sequence] + index / step.sharing;
  vector.is_valid = vector.token < end;
  vector.head = work.kv_head * step.sharing + index % step.sharing;
  vector.position = step.contexts[work.sequence] - end + vector.token;
  if (vector.is_valid) vector.span = row_span(step, vector.position);
  return vector;
}

// The softmax of some keys: weights are 2^(score - largest), and `total` is their sum; 0 where no
// key counts. A NaN makes it one.
struct Softmax {
  float largest = kNothing;
  float total = 0;
};

// What sums of weighted values are to be multiplied with.
struct MergeFactors {
  float before = 0;  // those of the state
  float now = 0;     // those of the part
};

// Adds a part's softmax, whose total is not 0, to those before it.
__device__ inline MergeFactors merge(Softmax& state, const Softmax& part) {
  const float largest = fmaxf(state.largest, part.largest);
  const MergeFactors factors{fast_exp2(state.largest - largest), fast_exp2(part.largest - largest)};
  state.total = fmaf(part.total, factors.now, state.total * factors.before);
  state.largest = largest;
  return factors;
}

__device__ inline float merge_value(float state, float part, const MergeFactors& factors) {
  return fmaf(part, factors.now, state * factors.before);
}

// What makes a sum of weighted values the output.
__device__ inline float output_factor(const AttentionStep& step, const Softmax& state) {
  return step.value_scale / state.total;
}

// The last index in [0, count) with is_before(index), which holds for 0 and, where it does not
// hold, not for what follows. All lanes of the warp take part and get the same.
template <typename IsBefore>
__device__ inline int warp_find_last(int count, IsBefore is_before) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  int first = 0;
  while (count > 1) {
    const int stride = (count + kWarpThreads - 1) / kWarpThreads;
    const int offset = lane * stride;
    const bool before = offset < count && is_before(first + offset);
    const int skipped = (__popc(warp_ballot(before)) - 1) * stride;
    first += skipped;
    count = min(stride, count - skipped);
  }
  return first;
}

// The sequence that has row `token` of the step.
__device__ inline int find_sequence(const AttentionStep& step, int token) {
  return warp_find_last(step.num_sequences, [&](int b) { return step.starts[b] <= token; });
}

// The position of row `token` in its sequence.
__device__ inline int position_of(const AttentionStep& step, int sequence, int token) {
  return step.contexts[sequence] - step.starts[sequence + 1] + token;
}

// Where a block's keys of one KV head begin in the cache, in bytes.
template <typename C>
__device__ inline int64_t head_offset(const AttentionStep& step, int block, int kv_head) {
  const int64_t slot_bytes =
      int64_t{2} * step.head_size * static_cast<int64_t>(sizeof(C)) + CacheNumbers<C>::kScaleBytes;
  return (int64_t{block} * step.num_kv_heads + kv_head) * step.block_size * slot_bytes;
}

}  // namespace sluice::kernels::cuda
