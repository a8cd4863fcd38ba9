#pragma once

#include <cstdint>

#include "kernels/cuda/device/sample_select.cuh"
#include "kernels/philox.h"

// Cuts, the draw and logprobs: a block a row, from what the passes over the whole rows have left.
// Grid: (R), kSampleThreads threads.
namespace sluice::kernels::cuda {

// Fills chunk_amounts with the mass that the cut keeps; returns its sum.
__device__ __attribute__((noinline)) inline uint64_t weigh_kept(Work& work, const Cut& cut) {
  const Sampling& sampling = work.sampling;
  const RowPlan& plan = work.plan;
  // What lies above the plan's range has been weighed.
  const bool is_in_range = work.has_range && cut.key >= plan.lowest && cut.key <= plan.highest;
  const Share share{.cut = cut,
                    .is_tie = false,
                    .scale = plan.scale,
                    .highest = is_in_range ? plan.highest : INT32_MAX};
  if (is_in_range && work.has_candidates) {
    clear_chunk_amounts(work);
    visit_candidates(work, [&](int32_t key, int32_t id) {
      add_at_once(work.chunk_amounts[id >> sampling.chunk_bits], share.of(key, id));
    });
    block_barrier();
  } else {
    sum_up_chunks(work, share);
  }
  uint64_t sum = 0;
#pragma unroll 1
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < sampling.num_chunks;
       c += kSampleThreads) {
    const uint64_t above = is_in_range ? work.view.sums[c].above_mass : 0;
    const uint64_t mass = value_of(work.chunk_amounts[c]) + above;
    work.chunk_amounts[c] = amount_of(mass);
    sum += mass;
  }
  return block_sum(sum, work.scratch);
}

// The mass that `weigh` has summed up; chunk_amounts has it by chunks.
__device__ __attribute__((noinline)) inline uint64_t whole_mass(Work& work) {
  uint64_t sum = 0;
#pragma unroll 1
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < work.sampling.num_chunks;
       c += kSampleThreads) {
    const uint64_t mass = work.view.sums[c].mass;
    work.chunk_amounts[c] = amount_of(mass);
    sum += mass;
  }
  return block_sum(sum, work.scratch);
}

// Steps 3 and 4 of sampler.h.
__device__ inline int32_t draw_token(Work& work) {
  const SampleRow& row = *work.view.row;
  const RowPlan& plan = work.plan;
  const bool by_rank = cuts_rank(work.sampling, row);
  const bool by_mass = cuts_mass(row);
  Cut cut;
  if (by_rank) cut = find_cut(work, By::kCount, static_cast<uint64_t>(row.top_k));
  if (by_mass) {
    const uint64_t whole = by_rank ? weigh_kept(work, cut) : whole_mass(work);
    cut = find_cut(work, By::kMass, wanted_mass(whole, row.top_p));
  }
  if (row.min_p > 0) {
    const Cut by_ratio{plan.ratio_key, INT32_MAX};
    if (by_ratio.is_stricter_than(cut)) cut = by_ratio;
  }
  const uint64_t kept = by_rank || by_mass ? weigh_kept(work, cut) : whole_mass(work);
  const uint64_t bits = random_bits(row.seed, row.completion_index, row.position);
  const Share share{.cut = cut, .is_tie = false, .scale = plan.scale};
  return find_id(work, share, drawn_mass(bits, kept));
}

// Puts the first `count` elements of the row, best first, to `top`.
__device__ inline void write_top(Work& work, int32_t count, double normalizer, SampleScore* top) {
  const Cut cut = find_cut(work, By::kCount, static_cast<uint64_t>(count));
  // Where there is not room enough in the block's memory the places of the results serve.
  static_assert(sizeof(SampleScore) == sizeof(Rank) && alignof(SampleScore) == alignof(Rank));
  Rank* ranks = count <= kListSize ? work.list : reinterpret_cast<Rank*>(top);
  block_barrier();
  if (threadIdx.x == 0) work.scratch.counter = 0;
  block_barrier();
  const auto append = [&](int32_t key, int32_t id) {
    if (cut.keeps(key, id)) ranks[atomicAdd(&work.scratch.counter, 1u)] = rank_of(key, id);
  };
  const bool is_among_candidates =
      work.has_candidates && cut.key >= work.plan.lowest && work.plan.highest == work.plan.max_key;
  if (is_among_candidates) {
    visit_candidates(work, append);
  } else {
    visit_row(work, cut.key, append);
  }
  block_barrier();
  block_sort(ranks, count);
#pragma unroll 1
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count; i += kSampleThreads) {
    const int32_t id = id_of_rank(ranks[i]);
    const double logit = static_cast<double>(work.view.logits[id]);
    top[i] = {.token_id = id, .logprob = static_cast<float>(logit - normalizer)};
  }
}

__device__ inline void score_token(Work& work, SampleResult& result) {
  constexpr double kUnit = 1.0 / static_cast<double>(uint64_t{1} << kMassBits);
  const SampleRow& row = *work.view.row;
  const double best = static_cast<double>(work.plan.scale.max);
  const double total = static_cast<double>(whole_mass(work));
  const double normalizer = best + natural_log(total * kUnit);
  const double logit = static_cast<double>(work.view.logits[result.token_id]);
  result.logprob = static_cast<float>(logit - normalizer);
  result.num_top = max(0, min(row.num_logprobs, work.sampling.vocabulary_size));
  if (result.num_top == 0) return;
  write_top(work, result.num_top, normalizer, work.sampling.args.top + row.first_top);
}

__global__ void __launch_bounds__(kSampleThreads) finish_kernel(Sampling sampling) {
  auto& work = *reinterpret_cast<Work*>(block_memory());
  const auto index = static_cast<int32_t>(blockIdx.x);
  const SampleRow& row = sampling.args.rows[index];
  SampleResult result{.token_id = row.scored_token};
  if (draws(row)) {
    const RowPlan& plan = *view_of(sampling, index, kDraw).plan;
    result.token_id = plan.best_id;
    if (plan.fault != SampleFault::kNone) return;  // `plan` has written it
    if (row.temperature > 0) {
      begin_work(work, sampling, index, kDraw);
      result.token_id = draw_token(work);
    }
  }
  if (scores(row)) {
    begin_work(work, sampling, index, kScore);
    result.fault = work.plan.fault;
    if (result.fault == SampleFault::kNone) score_token(work, result);
  }
  if (threadIdx.x == 0) sampling.args.results[index] = result;
}

}  // namespace sluice::kernels::cuda
