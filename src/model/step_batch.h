#pragma once

#include <cstdint>
#include <vector>

namespace sluice::model {

// One ragged call of a model: T tokens of B sequences, prefill chunks and decode tokens together.
//
// Plain numbers, so that the engine and its tests need no LibTorch; the vectors are reused from
// step to step. kernels/operators.h says how a program sees them (its `plan`).
struct StepBatch {
  std::vector<int32_t> tokens;           // [T]
  std::vector<int32_t> positions;        // [T], position in the own sequence
  std::vector<int32_t> sequence_starts;  // [B + 1], rows of T
  std::vector<int32_t> context_lengths;  // [B], tokens in the cache after this step
  std::vector<int32_t> block_tables;     // [B * max_blocks], row-major; -1 past a sequence's end
  int32_t max_blocks = 0;                // M
  std::vector<int32_t> logit_rows;       // [R], rows of T, ascending

  void clear() {
    tokens.clear();
    positions.clear();
    sequence_starts.assign(1, 0);
    context_lengths.clear();
    block_tables.clear();
    max_blocks = 0;
    logit_rows.clear();
  }
};

}  // namespace sluice::model
