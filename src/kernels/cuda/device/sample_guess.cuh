#pragma once

#include <cstdint>

#include "kernels/cuda/device/sample_rows.cuh"

// Where in a row a cut should be looked for, from its chunks' best elements and a sample of the
// others. A guess: a wrong one costs time only.
namespace sluice::kernels::cuda {

inline constexpr int32_t kSampleSize = 2048;
inline constexpr int32_t kPlanBuckets = 1024;

struct PlanMemory {
  Rank list[kSampleSize];
  Amount masses[kPlanBuckets];   // of the row, by distance from the maximum
  Amount sampled[kPlanBuckets];  // ... as far as a sample speaks for it
  Amount counts[kPlanBuckets];
  BlockScratch scratch;
};

struct KeyRange {
  int32_t lowest;
  int32_t highest;
};

// What a block plans: a row in one view, its range known.
struct PlanWork {
  const Sampling& sampling;
  const RowView& view;
  const RowPlan& plan;
  PlanMemory& memory;

  // The key of a logit as it is in memory: what the row's lists change is left out, and what that
  // could lead to is kept in the row's range.
  __device__ int32_t key_in_memory(int32_t id) const {
    return max(plan.min_key, min(plan.max_key, key_of(view.logits[id])));
  }
  __device__ uint64_t mass(int32_t key) const { return mass_of(from_key(key), plan.scale); }
};

// The key at which `count` of the chunks' best are reached.
// Requires: 1 <= count <= num_chunks.
__device__ inline int32_t key_of_chunk_rank(const PlanWork& work, int32_t count) {
  Rank* list = work.memory.list;
#pragma unroll 1
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < work.sampling.num_chunks;
       c += kSampleThreads) {
    list[c] = work.view.chunks[c].best;
  }
  block_sort(list, work.sampling.num_chunks);
  return key_of_rank(list[count - 1]);
}

// Keys between which the element of this rank should lie.
__device__ inline KeyRange range_of_rank(const PlanWork& work, int32_t rank) {
  constexpr double kDeviations = 3;
  const RowPlan& plan = work.plan;
  if (rank <= work.sampling.num_chunks) {
    return {.lowest = key_of_chunk_rank(work, rank), .highest = plan.max_key};
  }
  const int32_t size = work.sampling.vocabulary_size;
  Rank* list = work.memory.list;
#pragma unroll 1
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < kSampleSize; i += kSampleThreads) {
    const auto id = static_cast<int32_t>(int64_t{i} * size / kSampleSize);
    list[i] = rank_of(work.key_in_memory(id), id);
  }
  block_sort(list, kSampleSize);
  const double share = static_cast<double>(rank) / size;
  const double margin = kDeviations * sqrt(share * (1 - share) / kSampleSize);
  const auto first = static_cast<int32_t>((share - margin) * kSampleSize) - 1;
  const auto last = static_cast<int32_t>((share + margin) * kSampleSize) + 1;
  return {.lowest = last < kSampleSize ? key_of_rank(list[last]) : plan.min_key,
          .highest = first >= 0 ? key_of_rank(list[first]) : plan.max_key};
}

// How a row's distances from its maximum, after temperature, are spread over buckets.
struct Buckets {
  const PlanWork& work;
  float per_unit;

  __device__ int32_t of(int32_t key) const {
    constexpr auto kLast = static_cast<float>(kPlanBuckets - 1);
    const float place = -scaled(from_key(key), work.plan.scale) * per_unit;
    return static_cast<int32_t>(place < kLast ? place : kLast);
  }
  // The key at the bucket's near end.
  __device__ int32_t key_at(int32_t bucket) const {
    const WeightScale& scale = work.plan.scale;
    const float distance = static_cast<float>(bucket) / per_unit / scale.inverse_temperature;
    return max(work.plan.min_key, min(work.plan.max_key, key_of(scale.max - distance)));
  }
  // Elements with this key that stand for `times` of the row.
  __device__ void add(Amount* amounts, int32_t key, int32_t times) const {
    const int32_t bucket = of(key);
    add_at_once(amounts[bucket], work.mass(key) * static_cast<uint32_t>(times));
    add_at_once(work.memory.counts[bucket], static_cast<uint32_t>(times));
  }
  __device__ int32_t find(const Amount* amounts, double rest) const {
    const uint64_t limit = rest > 0 ? static_cast<uint64_t>(rest) : 0;
    return block_find(amounts, kPlanBuckets, limit, work.memory.scratch).index;
  }
};

__device__ inline Buckets spread_over_buckets(const PlanWork& work) {
  constexpr float kMaxDistance = 32;  // weights beyond are zero
  constexpr float kMinDistance = 1e-30f;
  float distance = -scaled(from_key(work.plan.min_key), work.plan.scale);
  distance = distance < kMaxDistance ? distance : kMaxDistance;
  return {work, kPlanBuckets / (distance > kMinDistance ? distance : kMinDistance)};
}

// A lane's column of a chunk: what `scan` tells of it.
struct Column {
  Rank best;
  int32_t sampled_key;
};

// Adds all elements of a column but its best. By a warp.
__device__ inline void add_column(const Buckets& buckets, int32_t first, Rank best) {
  const Sampling& sampling = buckets.work.sampling;
  for (int32_t step = lane_index(); step < column_steps(sampling); step += kWarpThreads) {
    const int32_t id = first + step * kWarpThreads;
    if (id >= sampling.vocabulary_size || id == id_of_rank(best)) continue;
    buckets.add(buckets.work.memory.masses, buckets.work.key_in_memory(id), 1);
  }
}

// Every column of a chunk stands in the buckets with its best element and one other, which speaks
// for the rest of it; a column of which the best has the mass `heavy`, with all its elements.
// By a warp, a column a lane.
__device__ inline void add_chunk(const Buckets& buckets, int32_t chunk, Column column,
                                 uint64_t heavy) {
  const PlanWork& work = buckets.work;
  const int32_t first = first_id_of_chunk(work.sampling, chunk);
  const int32_t best_key = key_of_rank(column.best);
  bool is_heavy = false;
  if (best_key >= kKeyOfMinusInfinity) {  // else the column is past the vocabulary
    is_heavy = work.mass(best_key) >= heavy;
    buckets.add(work.memory.masses, best_key, 1);
  }
  const int32_t step = sampled_step(work.sampling, chunk, lane_index());
  const int32_t id = first + step * kWarpThreads + lane_index();
  if (!is_heavy && column.sampled_key >= kKeyOfMinusInfinity && id != id_of_rank(column.best)) {
    buckets.add(work.memory.sampled, column.sampled_key, column_steps(work.sampling));
  }
  for (uint32_t columns = warp_ballot(is_heavy); columns != 0; columns &= columns - 1) {
    const int lane = __ffs(static_cast<int>(columns)) - 1;
    add_column(buckets, first + lane, warp_shuffle(column.best, lane));
  }
}

// The chunks' best that alone are this part of what the chunks' best have together are heavy.
__device__ inline uint64_t heavy_mass(const PlanWork& work) {
  constexpr uint64_t kMostHeavyChunks = 64;
  uint64_t known = 0;
#pragma unroll 1
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < work.sampling.num_chunks;
       c += kSampleThreads) {
    known += work.mass(key_of_rank(work.view.chunks[c].best));
  }
  return block_sum(known, work.memory.scratch) / kMostHeavyChunks;
}

__device__ inline void fill_buckets(const Buckets& buckets) {
  const Sampling& sampling = buckets.work.sampling;
  PlanMemory& memory = buckets.work.memory;
  const uint64_t heavy = heavy_mass(buckets.work);
#pragma unroll 1
  for (int32_t b = static_cast<int32_t>(threadIdx.x); b < kPlanBuckets; b += kSampleThreads) {
    memory.masses[b] = memory.sampled[b] = memory.counts[b] = amount_of(0);
  }
  block_barrier();
  const int64_t row = int64_t{buckets.work.view.index} * sampling.num_chunks * kWarpThreads;
  const auto column_of = [&](int32_t chunk) -> Column {
    if (chunk >= sampling.num_chunks) return {kLastRank, INT32_MIN};
    const int64_t place = row + chunk * kWarpThreads + lane_index();
    return {sampling.column_best[place], sampling.column_key[place]};
  };
  // What the next round needs is on its way during this one.
  Column next = column_of(warp_index());
#pragma unroll 1
  for (int32_t chunk = warp_index(); chunk < sampling.num_chunks; chunk += kSampleWarps) {
    const Column column = next;
    next = column_of(chunk + kSampleWarps);
    add_chunk(buckets, chunk, column, heavy);
  }
  block_barrier();
}

// Adds what the sample speaks for to `masses`; returns the sum of all.
__device__ inline uint64_t total_of_buckets(PlanMemory& memory) {
  uint64_t sum = 0;
#pragma unroll 1
  for (int32_t b = static_cast<int32_t>(threadIdx.x); b < kPlanBuckets; b += kSampleThreads) {
    const uint64_t mass = value_of(memory.masses[b]) + value_of(memory.sampled[b]);
    memory.masses[b] = amount_of(mass);
    sum += mass;
  }
  return block_sum(sum, memory.scratch);
}

// By how much the mass of the buckets up to `middle`, share p of the whole, may be off.
__device__ inline double margin_of_mass(const Buckets& buckets, double p, int32_t middle) {
  constexpr double kDeviations = 3;
  const PlanWork& work = buckets.work;
  double squares = 0;
#pragma unroll 1
  for (int32_t b = static_cast<int32_t>(threadIdx.x); b < kPlanBuckets; b += kSampleThreads) {
    const double one = static_cast<double>(work.mass(buckets.key_at(b)));
    const double lack = b <= middle ? 1 - p : p;
    const double mass = static_cast<double>(value_of(work.memory.sampled[b]));
    squares += mass * one * column_steps(work.sampling) * lack * lack;
  }
  return kDeviations * sqrt(block_sum(squares, work.memory.scratch));
}

// Keys between which the cut by mass should fall.
__device__ inline KeyRange range_of_mass(const PlanWork& work) {
  // So many elements are no burden, and spare a guess that has to be good.
  constexpr double kFewElements = 1024;
  constexpr double kSomeElements = 4096;
  const PlanMemory& memory = work.memory;
  const Buckets buckets = spread_over_buckets(work);
  fill_buckets(buckets);
  const auto total = static_cast<double>(total_of_buckets(work.memory));
  const double p = static_cast<double>(work.view.row->top_p);
  const int32_t middle = buckets.find(memory.masses, p * total);
  const double margin = margin_of_mass(buckets, p, middle);
  const int32_t first = buckets.find(memory.masses, p * total - margin) - 1;
  int32_t last = buckets.find(memory.masses, p * total + margin) + 1;
  const bool from_top = first < buckets.find(memory.counts, kSomeElements);
  if (from_top) last = max(last, buckets.find(memory.counts, kFewElements));
  return {.lowest = last + 1 < kPlanBuckets ? buckets.key_at(last + 1) : work.plan.min_key,
          .highest = from_top ? work.plan.max_key : buckets.key_at(first)};
}

}  // namespace sluice::kernels::cuda
