#pragma once

#include <cstdint>

#include "kernels/cuda/device/sample_guess.cuh"

// What is to be done with a row.
// Grid: (R, views), kSampleThreads threads.
namespace sluice::kernels::cuda {

__device__ inline void set_range(RowPlan& plan, KeyRange range) {
  plan.lowest = range.lowest;
  plan.highest = range.highest;
}

__device__ inline void plan_draw(const Sampling& sampling, const RowView& view, RowPlan& plan,
                                 PlanMemory& memory) {
  const SampleRow& row = *view.row;
  const PlanWork work{sampling, view, plan, memory};
  plan.is_weighed = true;
  plan.weighs_all = !cuts_rank(sampling, row);
  if (row.min_p > 0) plan.ratio_key = lowest_key_of_ratio(row.min_p, plan.max_key, plan.scale);
  if (!cuts_rank(sampling, row) && !cuts_mass(row)) {
    plan.lowest_weighed = plan.ratio_key;
  } else if (has_room_for_all(sampling)) {
    set_range(plan, {plan.min_key, plan.max_key});
  } else if (cuts_rank(sampling, row)) {
    set_range(plan, range_of_rank(work, row.top_k));
  } else {
    set_range(plan, range_of_mass(work));
  }
}

__device__ inline void plan_score(const Sampling& sampling, const RowView& view, RowPlan& plan,
                                  PlanMemory& memory) {
  plan.is_weighed = true;
  plan.weighs_all = true;
  const int32_t count = min(view.row->num_logprobs, sampling.vocabulary_size);
  if (count <= 0) return;
  if (has_room_for_all(sampling)) {
    set_range(plan, {plan.min_key, plan.max_key});
  } else {
    set_range(plan, range_of_rank({sampling, view, plan, memory}, count));
  }
}

// The row's range and what is wrong with it. A row that has nothing although no list took it away
// is the model's fault, not the request's.
__device__ inline RowPlan look_at_chunks(const Sampling& sampling, const RowView& view,
                                         PlanMemory& memory) {
  Rank best = kLastRank;
  Rank worst = kLastRank;  // of the opposite order
#pragma unroll 1
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < sampling.num_chunks;
       c += kSampleThreads) {
    const ChunkState& chunk = view.chunks[c];
    best = chunk.best < best ? chunk.best : best;
    const Rank smallest = rank_of(~chunk.smallest_key, 0);
    worst = smallest < worst ? smallest : worst;
  }
  best = block_min(best, memory.scratch);
  worst = block_min(worst, memory.scratch);
  RowPlan plan{};
  plan.best_id = id_of_rank(best);
  plan.max_key = key_of_rank(best);
  plan.min_key = ~key_of_rank(worst);
  plan.lowest_weighed = INT32_MIN;
  plan.ratio_key = INT32_MIN;
  plan.lowest = INT32_MAX;
  plan.highest = INT32_MAX;
  if (plan.min_key < kKeyOfMinusInfinity || plan.max_key >= kKeyOfInfinity) {
    plan.fault = SampleFault::kNotFinite;
  } else if (plan.max_key == kKeyOfMinusInfinity) {
    plan.fault = view.is_edited ? SampleFault::kNothingLeft : SampleFault::kNotFinite;
  }
  return plan;
}

__global__ void __launch_bounds__(kSampleThreads) plan_kernel(Sampling sampling) {
  auto& memory = *reinterpret_cast<PlanMemory*>(block_memory());
  const auto index = static_cast<int32_t>(blockIdx.x);
  const auto view_index = static_cast<View>(blockIdx.y);
  const RowView view = view_of(sampling, index, view_index);
  const SampleRow& row = *view.row;
  if (view_index == kDraw ? !draws(row) : !scores(row)) {
    if (threadIdx.x == 0) view.plan->is_weighed = false;
    return;
  }
  RowPlan plan = look_at_chunks(sampling, view, memory);
  if (plan.fault == SampleFault::kNone) {
    const float inverse = view_index == kDraw && row.temperature > 0 ? 1.0f / row.temperature : 1;
    plan.scale = {.max = from_key(plan.max_key), .inverse_temperature = inverse};
    if (view_index == kScore) plan_score(sampling, view, plan, memory);
    if (view_index == kDraw && row.temperature > 0) plan_draw(sampling, view, plan, memory);
  }
  if (threadIdx.x != 0) return;
  *view.plan = plan;
  // All there is to say of a row that takes the most likely token and has no logprobs.
  if (view_index == kDraw) {
    sampling.args.results[index] = {.fault = plan.fault, .token_id = plan.best_id};
  }
}

}  // namespace sluice::kernels::cuda
