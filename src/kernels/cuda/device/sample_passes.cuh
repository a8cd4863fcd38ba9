#pragma once

#include <cstdint>

#include "kernels/cuda/device/sample_rows.cuh"

// The sampler's two passes over whole rows: a warp a chunk, and no warp waits for another.
// Grid: (chunks / kPassWarps, R, views).
namespace sluice::kernels::cuda {

inline constexpr int kPassWarps = 4;
inline constexpr size_t kPassMemoryBytes = sizeof(float) * kTile * kPassWarps;

__device__ inline int32_t chunk_of_warp() {
  return static_cast<int32_t>(blockIdx.x) * kPassWarps + warp_index();
}
__device__ inline float* buffer_of_warp() {
  return reinterpret_cast<float*>(block_memory()) + warp_index() * kTile;
}

// The first entry of list [size], ascending by id, whose id is not below `id`. By a warp, which
// divides what is left by 32 in a step.
template <typename Entry>
__device__ int32_t first_entry_from(const Entry* list, int32_t size, int32_t id) {
  int32_t begin = 0;
  int32_t end = size;
  while (begin < end) {
    const int32_t step = (end - begin + kWarpThreads - 1) / kWarpThreads;
    const int32_t probe = begin + lane_index() * step;
    const bool is_below = probe < end && list[probe].token_id < id;
    const int32_t num_below = __popc(warp_ballot(is_below));
    if (num_below == 0) break;
    end = min(end, begin + num_below * step);
    begin += (num_below - 1) * step + 1;
  }
  return begin;
}

// The entries of a list [size] whose ids are in the chunk: the first, and the end.
template <typename Entry>
__device__ int2 entries_of_chunk(const Sampling& sampling, const Entry* list, int32_t size,
                                 int32_t chunk) {
  if (size == 0) return {0, 0};
  return {first_entry_from(list, size, first_id_of_chunk(sampling, chunk)),
          first_entry_from(list, size, end_id_of_chunk(sampling, chunk))};
}

// Fills `chunks`: the row's range and its first best element.
__global__ void __launch_bounds__(kPassWarps* kWarpThreads) scan_kernel(Sampling sampling) {
  const auto index = static_cast<int32_t>(blockIdx.y);
  const auto view_index = static_cast<View>(blockIdx.z);
  const int32_t chunk = chunk_of_warp();
  if (chunk >= sampling.num_chunks) return;
  const SampleRow& row = sampling.args.rows[index];
  const bool is_seen =
      view_index == kDraw ? draws(row) : scores(row) && (row.scored_token >= 0 || is_edited(row));
  if (!is_seen) return;
  const RowView view = view_of(sampling, index, view_index);
  ChunkEdits edits;
  int2 counts{0, 0};
  int2 biases{0, 0};
  if (view.is_edited) {
    counts =
        entries_of_chunk(sampling, sampling.args.counts + row.first_count, row.num_counts, chunk);
    biases =
        entries_of_chunk(sampling, sampling.args.biases + row.first_bias, row.num_biases, chunk);
    edits = edits_between(sampling, row, counts, biases);
  }

  int32_t smallest = INT32_MAX;
  int32_t largest = INT32_MIN;
  int32_t best_id = 0;
  int32_t sampled_key = INT32_MIN;
  int32_t steps_left = sampled_step(sampling, chunk, lane_index());
  const int32_t end = end_id_of_chunk(sampling, chunk);
  for (int32_t first = first_id_of_chunk(sampling, chunk); first < end; first += kTile) {
    const Tile tile = load_tile(sampling, view, edits, first, buffer_of_warp());
#pragma unroll
    for (int j = 0; j < kTileLogits; ++j) {
      if (!tile.has(j)) continue;
      const int32_t key = key_of(tile.z[j]);
      smallest = min(smallest, key);
      if (key > largest) {
        largest = key;
        best_id = tile.id(j);
      }
      if (steps_left == j) sampled_key = key;
    }
    steps_left -= kTileLogits;
  }
  const Rank own = rank_of(largest, best_id);
  if (view_index == kDraw && needs_columns(sampling, row)) {
    const int64_t place = int64_t{index} * sampling.num_chunks + chunk;
    sampling.column_best[place * kWarpThreads + lane_index()] = own;
    sampling.column_key[place * kWarpThreads + lane_index()] = sampled_key;
  }
  const Rank best = warp_min(own);
  smallest = warp_min(smallest);
  if (lane_index() != 0) return;
  view.chunks[chunk] = {
      .best = best, .smallest_key = smallest, .first_count = counts.x, .first_bias = biases.x};
}

// Appends the elements of a tile that lie between the plan's keys to the view's candidates.
__device__ inline void collect_tile(const Sampling& sampling, const RowView& view,
                                    const RowPlan& plan, const Tile& tile) {
  uint32_t inside = 0;  // bit j: z[j] is
#pragma unroll
  for (int j = 0; j < kTileLogits; ++j) {
    const int32_t key = key_of(tile.z[j]);
    const bool is_inside = tile.has(j) && key >= plan.lowest && key <= plan.highest;
    inside |= static_cast<uint32_t>(is_inside) << j;
  }
  if (warp_ballot(inside != 0) == 0) return;
  const auto num_own = static_cast<uint32_t>(__popc(inside));
  const auto num_up_to_own = static_cast<uint32_t>(warp_running_sum(uint64_t{num_own}));
  const uint32_t num_found = warp_shuffle(num_up_to_own, kWarpThreads - 1);
  uint32_t place = 0;
  if (lane_index() == 0) place = atomicAdd(&view.plan->num_candidates, num_found);
  place = warp_shuffle(place, 0) + num_up_to_own - num_own;
#pragma unroll
  for (int j = 0; j < kTileLogits; ++j) {
    if ((inside >> j & 1) == 0) continue;
    if (place < sampling.max_candidates) {
      view.candidates[place] = rank_of(key_of(tile.z[j]), tile.id(j));
    }
    ++place;
  }
}

// Fills `sums` and the candidates as the row's plan asks for.
__global__ void __launch_bounds__(kPassWarps* kWarpThreads) weigh_kernel(Sampling sampling) {
  const auto index = static_cast<int32_t>(blockIdx.y);
  const int32_t chunk = chunk_of_warp();
  if (chunk >= sampling.num_chunks) return;
  const RowView view = view_of(sampling, index, static_cast<View>(blockIdx.z));
  const RowPlan plan = *view.plan;
  if (!plan.is_weighed) return;
  const int32_t largest = key_of_rank(view.chunks[chunk].best);
  const bool has_candidates = largest >= plan.lowest;
  const bool has_mass = plan.weighs_all && largest >= plan.lowest_weighed &&
                        scaled(from_key(largest), plan.scale) >= kLowestScaled;
  const bool has_above = largest > plan.highest;
  const ChunkEdits edits = edits_of(sampling, view, chunk);
  ChunkSums sums{};
  if (has_candidates || has_mass) {
    const int32_t end = end_id_of_chunk(sampling, chunk);
    for (int32_t first = first_id_of_chunk(sampling, chunk); first < end; first += kTile) {
      const Tile tile = load_tile(sampling, view, edits, first, buffer_of_warp());
      if (has_mass || has_above) {
#pragma unroll
        for (int j = 0; j < kTileLogits; ++j) {
          const int32_t key = key_of(tile.z[j]);
          const uint64_t mass = mass_of(tile.z[j], plan.scale);
          if (key >= plan.lowest_weighed) sums.mass += mass;
          if (key <= plan.highest) continue;
          sums.above_mass += mass;
          ++sums.num_above;
        }
      }
      if (has_candidates) collect_tile(sampling, view, plan, tile);
    }
  }
  sums.mass = warp_sum(sums.mass);
  sums.above_mass = warp_sum(sums.above_mass);
  sums.num_above = warp_sum(sums.num_above);
  if (lane_index() == 0) view.sums[chunk] = sums;
}

}  // namespace sluice::kernels::cuda
