#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/params.h"
#include "sampling/token_counts.h"

namespace sluice::kernels {
class ThreadPool;
}

// From a row of logits to a token, exactly defined, in an order that nothing outside the row moves.
//
// Let x [V] float32 be the model's logits of one row. In this order:
//
// 1. Penalties and bias, only on the ids that they name; all in float32.
//    repetition r   for every id of the prompt or the completion: x > 0 ? x / r : x * r
//                   (Keskar et al. 2019, 1909.05858, in the form of Hugging Face and vLLM)
//    frequency f    x -= f * (times that the id was generated)      (OpenAI's API reference;
//    presence p     x -= p if the id was generated at all            the prompt does not count)
//    logit bias b   x += b; -infinity forbids the id
//    forbidden ids  x = -infinity (end and stop tokens before min_tokens)
//    Hugging Face and vLLM apply the same three penalties in this order.
// 2. Temperature T < kGreedyTemperature: the id with the largest x, the lowest such id, is the
//    answer. Otherwise w(i) = exp((x(i) - max x) * (1 / T)), kept as an integer number of 2^-40,
//    rounded to nearest: sums are exact and do not depend on any order. An id less than 2^-41 times
//    as likely as the likeliest one is never drawn.
// 3. Cuts, each on what the one before has left, along the order "larger x first, of equal ones the
//    lower id first" (Hugging Face's sequence of the three):
//    top_k    the first k ids
//    top_p    the shortest beginning whose weight is at least top_p of all that is left
//             (Holtzman et al. 2019, 1904.09751); at least one id
//    min_p    the ids with (x - max x) / T >= ln(min_p) (Nguyen et al. 2024, 2407.01082)
//    Unlike vLLM and Hugging Face, ids that tie with the last kept one are not kept as well.
// 4. One draw: with W the weight left and u 64 random bits (kernels/philox.h) of (seed, completion
//    index, position), the first id, in ascending order of ids, at which the running weight exceeds
//    floor(u W / 2^64).
//
// Logprobs are those of the model's own distribution, before step 1 and without temperature:
// x(i) - max x - ln(sum of w), with w as above for T = 1.
namespace sluice::sampling {

struct TokenScore {
  int32_t token_id = 0;
  float logprob = 0;
};

// One row to draw from or to score. Pointers stay the caller's, for the call.
struct RowTask {
  float* logits = nullptr;  // [V]; changed during the call, the same as before after it
  const SamplingParams* params = nullptr;
  const TokenCounts* counts = nullptr;  // needed if uses_counts(params)
  std::span<const int32_t> forbidden;   // ids in [0, V)
  uint32_t completion_index = 0;
  uint32_t position = 0;      // of the token to be drawn, in its sequence
  int32_t scored_token = -1;  // >= 0: nothing is drawn, this token is scored (prompt logprobs)
  int32_t num_logprobs = -1;  // top-N wanted; -1: no logprobs
};

enum class RowFault : uint8_t {
  kNone,
  kNotFinite,    // a NaN or +infinity among the model's logits, or nothing but -infinity
  kNothingLeft,  // the request's bias and forbidden ids leave every id at -infinity
};

struct RowResult {
  RowFault fault = RowFault::kNone;  // then the rest means nothing
  int32_t token_id = -1;             // drawn, or the scored one
  float logprob = 0;                 // if num_logprobs >= 0
  std::vector<TokenScore> top;       // best first, of equal ones the lower id first
};

// True if drawing with these parameters needs the completion's TokenCounts.
bool uses_counts(const SamplingParams& params);

// Gives every thread of `pool` the memory that rows of this size usually need, so that no step has
// to ask for it.
void reserve_for_rows(kernels::ThreadPool& pool, int32_t vocabulary_size);

// Does every task, in parallel over the compute pool in force. A result's bits depend on its own
// task alone.  Requires: results.size() == tasks.size(); vocabulary_size >= 1.
void sample_rows(std::span<const RowTask> tasks, int32_t vocabulary_size,
                 std::span<RowResult> results);

}  // namespace sluice::sampling
