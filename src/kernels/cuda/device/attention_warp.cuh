#pragma once

#include "kernels/cuda/device/attention_tiles.cuh"

// Attention with matrix units, for 16-bit models.
//
// A warp has 16 query vectors of one sequence and KV head: (row, query head of the KV head), the
// heads of a row side by side, so that heads that share keys share their reading. Of its products
// lane l has vectors l / 4 and l / 4 + 8 (`r` = 0, 1), and of each 8 keys or numbers those at
// 2 (l % 4) and the next one (PTX ISA, mma.m16n8k16).
//
// A vector's numbers are computed from its own row of the products alone. What other vectors of the
// warp see and it does not see must leave its numbers as they are: such scores are -infinity, such
// weights 0, and 16 keys of which it sees none are kept from its sums (0 x NaN is NaN).
namespace sluice::kernels::cuda {

// What a lane's two vectors see in this block: [first, last), nothing if they are none.
struct LaneSpans {
  int first[2] = {};
  int last[2] = {};
};

template <typename Tiles>
class Attention {
 public:
  using T = typename Tiles::T;

  __device__ Attention(const AttentionStep& step, const AttentionWork& work)
      : step_(step), work_(work), lane_(static_cast<int>(threadIdx.x) % kWarpThreads) {
    load_queries();
    if constexpr (Tiles::kWalks) {
#pragma unroll
      for (int n = 0; n < kValueTiles; ++n) *merged(n) = make_float4(0, 0, 0, 0);
    }
  }

  // All keys of [first, last), which hold those that the block's vectors see.
  __device__ __forceinline__ void run(int first, int last) {
    Loader<Tiles> loader(step_, work_.sequence, work_.kv_head, first, last);
    unsigned char* ring = block_memory();
    int place = 0;
#pragma unroll 1
    for (int i = 0; i < Tiles::kPlaces - 1; ++i) {
      loader.copy(i, ring + i * Tiles::kPlaceBytes);
      commit_copies();
    }
    // The next place, once all threads' copies of it have come and all are done with the last one,
    // which then is copied to.
    const auto next_place = [&](int index) {
      wait_for_copies<Tiles::kPlaces - 2>();
      block_barrier();
      const int free_place = place == 0 ? Tiles::kPlaces - 1 : place - 1;
      loader.copy((index + Tiles::kPlaces - 1) % Tiles::kPlacesOfTile,
                  ring + free_place * Tiles::kPlaceBytes);
      commit_copies();
      const unsigned char* rows = ring + place * Tiles::kPlaceBytes;
      place = place == Tiles::kPlaces - 1 ? 0 : place + 1;
      return rows;
    };
    constexpr int kHalf = Tiles::kPlacesOfTile / 2;
#pragma unroll 1
    for (int tile = first / Tiles::kTileKeys * Tiles::kTileKeys; tile < last;
         tile += Tiles::kTileKeys) {
      begin_tile(tile);
#pragma unroll
      for (int i = 0; i < kHalf; ++i) {
        const unsigned char* rows = next_place(i);
        if (is_seen_) add_scores(i, rows);
      }
      if (is_seen_) weigh(tile);
#pragma unroll
      for (int i = 0; i < kHalf; ++i) {
        const unsigned char* rows = next_place(kHalf + i);
        if (is_seen_) add_values(i, tile, rows);
      }
      if constexpr (Tiles::kWalks) {
        const int end = tile + Tiles::kTileKeys;
        if ((kFixedOrder && end % kPartKeys == 0) || end >= last) end_parts(end);
      }
    }
    wait_for_copies<0>();
    block_barrier();
  }

  __device__ __forceinline__ void store() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const QueryVector vector = own_vector(r);
      if constexpr (Tiles::kWalks) {
        if (vector.is_valid) store_output(r, vector, state_[r]);
      } else {
        store_part(r, vector);
      }
    }
  }

 private:
  static constexpr int kPairs = Tiles::kSize / 32;      // of the 16 numbers of a product, of D
  static constexpr int kValueTiles = Tiles::kSize / 8;  // of D
  static constexpr int kKeyTiles = Tiles::kPlaceKeys / 8;
  static constexpr int kGroups = Tiles::kPlaceKeys / 16;

  __device__ QueryVector own_vector(int r) const {
    const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
    return query_vector(step_, work_, work_.first_vector + warp * 16 + lane_ / 4 + r * 8);
  }

  // The warp's queries, as warp_multiply's `a`, in layout.h's order of 32 numbers; and what they
  // see.
  __device__ __forceinline__ void load_queries() {
    const T* queries[2];  // from the lane's quarter on
    for (int r = 0; r < 2; ++r) {
      const QueryVector vector = own_vector(r);
      queries[r] = nullptr;
      if (!vector.is_valid) continue;
      queries[r] = static_cast<const T*>(step_.queries) + vector.token * step_.query_stride +
                   int64_t{vector.head} * step_.head_size + lane_ % 4 * 8;
      const RowSpan seen = Tiles::kWalks ? vector.span : part_of(vector.span, work_.part);
      spans_.first[r] = seen.first;
      spans_.last[r] = seen.last;
    }
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      const bool is_inside = pair * 32 + lane_ % 4 * 8 < step_.head_size;
      uint4 numbers[2];
      for (int r = 0; r < 2; ++r) {
        numbers[r] = queries[r] != nullptr && is_inside
                         ? *reinterpret_cast<const uint4*>(queries[r] + pair * 32)
                         : make_uint4(0, 0, 0, 0);
      }
      set_query(2 * pair, make_uint4(numbers[0].x, numbers[1].x, numbers[0].y, numbers[1].y));
      set_query(2 * pair + 1, make_uint4(numbers[0].z, numbers[1].z, numbers[0].w, numbers[1].w));
    }
  }

  // In registers, or where they are too many in the block's memory, each lane for itself.
  __device__ uint4* query_memory(int i) const {
    return reinterpret_cast<uint4*>(block_memory() + Tiles::kQueriesAt) + i * Tiles::kThreads +
           threadIdx.x;
  }
  __device__ void set_query(int i, const uint4& value) {
    if constexpr (Tiles::kIsLarge) {
      *query_memory(i) = value;
    } else {
      queries_[i] = value;
    }
  }
  __device__ uint4 query(int i) const {
    if constexpr (Tiles::kIsLarge) {
      return *query_memory(i);
    } else {
      return queries_[i];
    }
  }

  // Whether a vector of the warp sees any of these keys, and whether one does not see them all.
  __device__ bool is_any_seen(int begin, int end) const {
    bool is_seen = false;
    for (int r = 0; r < 2; ++r) {
      is_seen = is_seen || (spans_.first[r] < end && spans_.last[r] > begin);
    }
    return warp_ballot(is_seen) != 0;
  }
  __device__ bool is_any_hidden(int begin, int end) const {
    bool is_hidden = false;
    for (int r = 0; r < 2; ++r) {
      is_hidden = is_hidden || (spans_.first[r] < spans_.last[r] &&
                                (spans_.first[r] > begin || spans_.last[r] < end));
    }
    return warp_ballot(is_hidden) != 0;
  }

  __device__ __forceinline__ void begin_tile(int tile) {
    is_seen_ = is_any_seen(tile, tile + Tiles::kTileKeys);
    is_masked_ = is_any_hidden(tile, tile + Tiles::kTileKeys);
    // Asked anew each time, lest the compiler makes two loops of one.
    has_slopes_ = warp_ballot(step_.slopes != nullptr) != 0;
#pragma unroll
    for (int j = 0; j < Tiles::kTileKeys / 8; ++j) {
      for (int e = 0; e < 4; ++e) scores_[j][e] = 0;
    }
  }

  // q k^T of the keys in a place.
  __device__ __forceinline__ void add_scores(int place, const unsigned char* rows) {
    const unsigned char* own = rows + lane_ / 4 * Tiles::kKeyStride;
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      const uint4 first = query(2 * pair);
      const uint4 second = query(2 * pair + 1);
#pragma unroll
      for (int j = 0; j < kKeyTiles; ++j) {
        const uint4 key = load_key<Tiles>(own + j * 8 * Tiles::kKeyStride, pair);
        float(&sum)[4] = scores_[place * kKeyTiles + j];
        warp_multiply<T>(sum, first, make_uint2(key.x, key.y));
        warp_multiply<T>(sum, second, make_uint2(key.z, key.w));
      }
    }
  }

  // Number e of scores_[j] is of this key of the tile and, for each lane, 2 (lane % 4) more; of
  // vector r = e / 2.
  __device__ static constexpr int key_of(int j, int e) { return j * 8 + e % 2; }
  __device__ int first_key() const { return lane_ % 4 * 2; }

  // Makes scores of the products.
  __device__ __forceinline__ void finish_scores(int tile) {
#pragma unroll
    for (int j = 0; j < Tiles::kTileKeys / 8; ++j) {
      float scale[2] = {step_.scale, step_.scale};
      if constexpr (Tiles::kIsBytes) {
        const float2* scales = Loader<Tiles>::scales() + first_key() + key_of(j, 0);
        scale[0] *= scales[0].x;
        scale[1] *= scales[1].x;
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) scores_[j][e] *= scale[e % 2];
    }
    if (has_slopes_) {
      float slope[2];
      float distance[2];  // whole numbers: exact, whichever key they are counted from
      for (int r = 0; r < 2; ++r) {
        const QueryVector vector = own_vector(r);
        slope[r] = vector.is_valid ? step_.slopes[vector.head] * kLog2E : 0.0f;
        distance[r] = static_cast<float>(tile + first_key() - vector.position);
      }
#pragma unroll
      for (int j = 0; j < Tiles::kTileKeys / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          scores_[j][e] =
              fmaf(slope[e / 2], distance[e / 2] + static_cast<float>(key_of(j, e)), scores_[j][e]);
        }
      }
    }
    if (is_masked_) hide(tile, kNothing);
  }

  // Puts `value` where a vector does not see a key.
  __device__ __forceinline__ void hide(int tile, float value) {
    int first[2];
    int last[2];
    for (int r = 0; r < 2; ++r) {
      first[r] = spans_.first[r] - tile - first_key();
      last[r] = spans_.last[r] - tile - first_key();
    }
#pragma unroll
    for (int j = 0; j < Tiles::kTileKeys / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool is_seen = key_of(j, e) >= first[e / 2] && key_of(j, e) < last[e / 2];
        if (!is_seen) scores_[j][e] = value;
      }
    }
  }

  // Turns a tile's products into weights, and scales what was summed before to them.
  __device__ __forceinline__ void weigh(int tile) {
    finish_scores(tile);
    float bound[2];
    float factor[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = softmax_[r].largest;
#pragma unroll
      for (int j = 0; j < Tiles::kTileKeys / 8; ++j) {
        largest = fmaxf(largest, fmaxf(scores_[j][2 * r], scores_[j][2 * r + 1]));
      }
      largest = fmaxf(largest, warp_shuffle_xor(largest, 1));
      largest = fmaxf(largest, warp_shuffle_xor(largest, 2));
      bound[r] = largest == kNothing ? 0.0f : largest;
      factor[r] = fast_exp2(softmax_[r].largest - bound[r]);
      softmax_[r].largest = largest;
      softmax_[r].total *= factor[r];
    }
#pragma unroll
    for (int j = 0; j < Tiles::kTileKeys / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        scores_[j][e] = fast_exp2(scores_[j][e] - bound[e / 2]);
        softmax_[e / 2].total += scores_[j][e];
      }
    }
    if constexpr (Tiles::kIsBytes) scale_weights(tile);
#pragma unroll
    for (int i = 0; i < Tiles::kTileKeys / 16; ++i) {
      const float(&low)[4] = scores_[2 * i];
      const float(&high)[4] = scores_[2 * i + 1];
      weights_[i] = make_uint4(pair_of<T>(low[0], low[1]), pair_of<T>(low[2], low[3]),
                               pair_of<T>(high[0], high[1]), pair_of<T>(high[2], high[3]));
    }
    // Where no vector's largest score grew, as for most tiles, the factors are 1.
    if (warp_ballot(factor[0] != 1.0f || factor[1] != 1.0f) == 0) return;
#pragma unroll
    for (int n = 0; n < kValueTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums_[n][e] *= factor[e / 2];
    }
  }

  __device__ __forceinline__ void scale_weights(int tile) {
#pragma unroll
    for (int j = 0; j < Tiles::kTileKeys / 8; ++j) {
      const float2* scales = Loader<Tiles>::scales() + first_key() + key_of(j, 0);
#pragma unroll
      for (int e = 0; e < 4; ++e) scores_[j][e] *= scales[e % 2].y;
    }
    if (is_masked_) hide(tile, 0);  // of scales that are NaN
  }

  // Weights times the values in a place.
  __device__ __forceinline__ void add_values(int place, int tile, const unsigned char* rows) {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      const int group = place * kGroups + i;
      const uint4& weights = weights_[group];
      const unsigned char* values = rows + i * 16 * Tiles::kValueStride;
      const int begin = tile + group * 16;
      if (is_masked_ && is_any_hidden(begin, begin + 16)) {
        add_masked_values(begin, weights, values);
      } else {
        for_each_value<Tiles>(
            values, [&](int n, const uint2& value) { warp_multiply<T>(sums_[n], weights, value); });
      }
    }
  }

  // Of 16 keys that some vector does not see, or not all. Where a value is no finite number, each
  // vector has a product of its own, with zeros in place of the values that it does not see.
  __device__ __forceinline__ void add_masked_values(int begin, const uint4& weights,
                                                    const unsigned char* rows) {
    bool by_vector = false;
    if constexpr (!Tiles::kIsBytes) by_vector = is_any_infinite<Tiles>(rows);
    const int count = by_vector ? 16 : 1;
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      uint2 mask = make_uint2(0xffffffffu, 0xffffffffu);
      bool is_added[2];
      for (int r = 0; r < 2; ++r) {
        is_added[r] = spans_.first[r] < begin + 16 && spans_.last[r] > begin;
        if (!by_vector) continue;
        is_added[r] = is_added[r] && lane_ / 4 + 8 * r == i;
        const int first = warp_shuffle(spans_.first[r], i * 4) - begin;
        const int last = warp_shuffle(spans_.last[r], i * 4) - begin;
        if (i / 8 != r) continue;
        mask.x = pair_mask(lane_ % 4 * 2, first, last);
        mask.y = pair_mask(lane_ % 4 * 2 + 8, first, last);
      }
      for_each_value<Tiles>(rows, [&](int n, const uint2& value) {
        float sum[4];
        for (int e = 0; e < 4; ++e) sum[e] = sums_[n][e];
        warp_multiply<T>(sum, weights, make_uint2(value.x & mask.x, value.y & mask.y));
        for (int e = 0; e < 4; ++e) sums_[n][e] = is_added[e / 2] ? sum[e] : sums_[n][e];
      });
    }
  }

  // A vector's softmax of the part.
  __device__ Softmax part_softmax(int r) const {
    float total = softmax_[r].total;
    total += warp_shuffle_xor(total, 1);
    total += warp_shuffle_xor(total, 2);
    return {softmax_[r].largest, total};
  }

  // Where a walking lane keeps what it has merged: sums_[n]'s numbers.
  __device__ float4* merged(int n) const {
    return reinterpret_cast<float4*>(block_memory() + Tiles::kMergedAt) + n * Tiles::kThreads +
           threadIdx.x;
  }

  // Merges the vectors' parts that end at key `end`, or with the vector's last key before it.
  __device__ __forceinline__ void end_parts(int end) {
    bool ends[2];
    bool counts[2];
    MergeFactors factors[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const Softmax part = part_softmax(r);
      ends[r] = end >= spans_.last[r];
      if (!ends[r]) {
        const int part_keys = 1 << row_span(step_, spans_.last[r] - 1).part_bits;
        ends[r] = (end & (part_keys - 1)) == 0;
      }
      counts[r] = ends[r] && part.total != 0.0f;
      if (counts[r]) factors[r] = merge(state_[r], part);
      if (ends[r]) softmax_[r] = {};
    }
#pragma unroll
    for (int n = 0; n < kValueTiles; ++n) {
      float4* place = merged(n);
      const float4 old = *place;
      float state[4] = {old.x, old.y, old.z, old.w};
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if (counts[e / 2]) state[e] = merge_value(state[e], sums_[n][e], factors[e / 2]);
        if (ends[e / 2]) sums_[n][e] = 0;
      }
      *place = make_float4(state[0], state[1], state[2], state[3]);
    }
  }

  // The merged sums of a vector, by product tile and odd or even number.
  __device__ float merged_value(int r, int n, int odd) const {
    const float4* values = merged(n);
    const float first = r == 0 ? values->x : values->z;
    return odd == 0 ? first : (r == 0 ? values->y : values->w);
  }

  __device__ __forceinline__ void store_part(int r, const QueryVector& vector) {
    const Softmax softmax = part_softmax(r);
    if (!vector.is_valid || work_.part >= num_parts(vector.span)) return;
    if (num_parts(vector.span) == 1) {
      Softmax state;
      MergeFactors factors;
      if (softmax.total != 0.0f) factors = merge(state, softmax);
#pragma unroll
      for (int n = 0; n < kValueTiles; ++n) {
        for (int e = 2 * r; e < 2 * r + 2; ++e) sums_[n][e] = merge_value(0, sums_[n][e], factors);
      }
      store_output(r, vector, state);
      return;
    }
    const int64_t row = step_.all_by_parts ? vector.token : work_.sequence;
    const int64_t index = (row * step_.num_heads + vector.head) * step_.max_parts + work_.part;
    if (lane_ % 4 == 0) step_.part_softmax[index] = make_float2(softmax.largest, softmax.total);
    float* values = step_.part_values + index * step_.head_size;
    const int size = step_.head_size;
#pragma unroll
    for (int n = 0; n < kValueTiles; ++n) {
      const int number = value_index<Tiles>(n, 0);
      if (number >= size) continue;
      if constexpr (Tiles::kIsBytes) {
        values[number] = sums_[n][2 * r];
        values[value_index<Tiles>(n, 1)] = sums_[n][2 * r + 1];
      } else {
        *reinterpret_cast<float2*>(values + number) =
            make_float2(sums_[n][2 * r], sums_[n][2 * r + 1]);
      }
    }
  }

  // A vector's final value of sums_[n]'s or, walking, of the merged numbers.
  __device__ float output_value(int r, int n, int odd, float factor) const {
    if constexpr (Tiles::kWalks) {
      return merged_value(r, n, odd) * factor;
    } else {
      return sums_[n][2 * r + odd] * factor;
    }
  }

  __device__ __forceinline__ void store_output(int r, const QueryVector& vector,
                                               const Softmax& state) {
    const float factor = output_factor(step_, state);
    T* output = static_cast<T*>(step_.output) +
                (int64_t{vector.token} * step_.num_heads + vector.head) * step_.head_size;
    constexpr int kTilesAtOnce = Tiles::kIsBytes ? 4 : 1;
#pragma unroll
    for (int n = 0; n < kValueTiles; n += kTilesAtOnce) {
      const int number = value_index<Tiles>(n, 0);
      if (number >= step_.head_size) continue;
      const auto value = [&](int i, int odd) { return output_value(r, n + i, odd, factor); };
      if constexpr (Tiles::kIsBytes) {
        *reinterpret_cast<uint4*>(output + number) =
            make_uint4(pair_of<T>(value(0, 0), value(1, 0)), pair_of<T>(value(2, 0), value(3, 0)),
                       pair_of<T>(value(0, 1), value(1, 1)), pair_of<T>(value(2, 1), value(3, 1)));
      } else {
        *reinterpret_cast<uint32_t*>(output + number) = pair_of<T>(value(0, 0), value(0, 1));
      }
    }
  }

  const AttentionStep& step_;
  const AttentionWork& work_;
  const int lane_;
  LaneSpans spans_;
  bool is_seen_ = false;    // the tile, by a vector of the warp
  bool is_masked_ = false;  // a key of the tile, for one of them
  bool has_slopes_ = false;
  uint4 queries_[Tiles::kIsLarge ? 1 : 2 * kPairs];
  float scores_[Tiles::kTileKeys / 8][4];  // products of the tile, then scores, then weights
  uint4 weights_[Tiles::kTileKeys / 16];   // as warp_multiply's `a`, of 16 keys each
  float sums_[kValueTiles][4] = {};
  Softmax softmax_[2];  // of the part; totals of the lane's own keys
  Softmax state_[2];    // of the parts before; walking
};

}  // namespace sluice::kernels::cuda
