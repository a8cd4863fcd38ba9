#pragma once

#include <cstdint>

#include "kernels/sampling_math.h"

// The inner loops over a row of logits, built once for each instruction set.
//
// Both builds give the same bits: comparisons and integer sums do not depend on the order, every
// float operation is one IEEE operation per element, and products are fused with sums only where
// the source says so (-ffp-contract=off). So the choice of one is about speed alone.
namespace sluice::sampling {

// Elements that a kernel call handles at most.
inline constexpr int kGroup = 128;

using kernels::kKeyOfInfinity;
using kernels::kKeyOfMinusInfinity;
using kernels::kMassBits;

struct KeyRange {
  int32_t smallest;
  int32_t largest;
};

// How logits become weights: w = exp((z - max) * inverse_temperature), in [0, 1], and as an
// integer mass round(w * 2^kMassBits).
struct WeightScale {
  float max;
  float inverse_temperature;
};

// Logits between which something is looked for, ends included.
struct Bracket {
  float lowest;
  float highest;
};

// Where `split` and `collect` put the elements inside the bracket.
struct Collector {
  float* z;
  int32_t* index;
  int32_t first_index;  // of the group
};

// What `split` tells of a group of elements.
struct GroupSplit {
  uint64_t whole = 0;  // mass of all
  uint64_t above = 0;  // mass of those above the bracket
  int num_inside = 0;
};

// What `collect` tells of a group of elements.
struct GroupCount {
  int num_above = 0;  // above the bracket
  int num_inside = 0;
};

struct RowKernels {
  // The range of keys of z[0 .. size).  Requires: 1 <= size <= kGroup.
  KeyRange (*key_range)(const float* z, int size);
  // mass[i] of z[i] for i < size, 0 where the key is below `lowest_key`; returns their sum.
  uint64_t (*weigh)(const float* z, int size, WeightScale scale, int32_t lowest_key,
                    uint64_t* mass);
  // The sum that weigh gives for everything.
  uint64_t (*weigh_all)(const float* z, int size, WeightScale scale);
  // Sums, and the elements inside the bracket with their indexes, in order.
  // Requires: room for size + 16 elements; bracket.lowest is finite.
  GroupSplit (*split)(const float* z, int size, WeightScale scale, Bracket bracket,
                      Collector inside);
  // The same without sums; the bracket's ends may be infinite.
  GroupCount (*collect)(const float* z, int size, Bracket bracket, Collector inside);
  // bucket[i] = min(num_buckets - 1, floor((max - z) * inverse_temperature * buckets_per_unit)).
  void (*bucket)(const float* z, int size, WeightScale scale, float buckets_per_unit,
                 int32_t* bucket);
};

// Buckets that RowKernels::bucket tells apart.
inline constexpr int32_t kNumBuckets = 1024;

namespace avx2 {
extern const RowKernels kRowKernels;
}
namespace avx512 {
extern const RowKernels kRowKernels;
}

}  // namespace sluice::sampling
