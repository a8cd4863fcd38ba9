#pragma once

#include <cstdint>

#include "kernels/cuda/device/sample_block.cuh"
#include "kernels/cuda/device/sample_math.cuh"

// What the sampler's kernels know of a row, and how a warp reads a part of it.
//
// A row is seen in two views: with the request's penalties, bias and forbidden ids, to draw from,
// and as the model gave it, for logprobs. A view's logits are computed where they are read, from
// the row's lists; memory keeps the model's. A chunk is what one warp works on, a power of two of
// tiles; a tile is 8 logits a lane, and a lane's logits of a chunk are a column.
namespace sluice::kernels::cuda {

inline constexpr int kTileLogits = 8;  // of a lane
inline constexpr int32_t kTile = kTileLogits * kWarpThreads;
inline constexpr int32_t kMaxChunks = 1024;  // of a row
inline constexpr int32_t kMaxChunkTiles = (1 << 24) / kTile / kMaxChunks;

enum View : int32_t { kDraw, kScore };

// What `scan` tells of a chunk in one view.
struct ChunkState {
  Rank best;
  int32_t smallest_key;
  int32_t first_count;  // first entries of the row's lists whose id is in the chunk or past it
  int32_t first_bias;
};

// What `weigh` tells of a chunk in one view.
struct ChunkSums {
  uint64_t mass;        // of keys that are not below RowPlan::lowest_weighed, if weighs_all
  uint64_t above_mass;  // of keys above RowPlan::highest
  int32_t num_above;
};

// What `plan` tells of a row in one view.
struct RowPlan {
  SampleFault fault;
  int32_t best_id;
  int32_t max_key;
  int32_t min_key;
  WeightScale scale;
  bool is_weighed;         // `weigh` has something to do
  bool weighs_all;         // ... and sums up the masses of all
  int32_t lowest_weighed;  // min_p alone: its cut
  int32_t ratio_key;       // min_p's cut: the lowest key that is left
  // Keys between which a cut is looked for. Elements there are collected; above the row's largest
  // key if there are none to be.
  int32_t lowest;
  int32_t highest;
  uint32_t num_candidates;  // found there; those past max_candidates are lost
};

// The parameter of every kernel. Arrays of [views, R, ...] begin with the view kDraw.
struct Sampling {
  SampleArgs args;
  int32_t num_rows;
  int32_t vocabulary_size;
  int32_t num_chunks;
  int32_t chunk_bits;  // a chunk has 2^chunk_bits logits
  uint32_t max_candidates;
  ChunkState* chunks;  // [views, R, num_chunks]
  ChunkSums* sums;     // [views, R, num_chunks]
  RowPlan* plans;      // [views, R]
  // Of the view kDraw, where a cut by mass has to be guessed at.
  Rank* column_best;    // [R, num_chunks, 32]
  int32_t* column_key;  // [R, num_chunks, 32], of the element sampled_step() steps down
  Rank* candidates;     // [views, R, max_candidates], in no order
};

__device__ inline bool draws(const SampleRow& row) {
  return row.scored_token < 0;
}
__device__ inline bool scores(const SampleRow& row) {
  return row.scored_token >= 0 || row.num_logprobs >= 0;
}
__device__ inline bool is_edited(const SampleRow& row) {
  return row.num_counts > 0 || row.num_biases > 0 || row.num_forbidden > 0;
}

__device__ inline bool cuts_rank(const Sampling& sampling, const SampleRow& row) {
  return row.top_k > 0 && row.top_k < sampling.vocabulary_size;
}
__device__ inline bool cuts_mass(const SampleRow& row) {
  return row.top_p < 1;
}
__device__ inline bool has_room_for_all(const Sampling& sampling) {
  return static_cast<uint32_t>(sampling.vocabulary_size) <= sampling.max_candidates;
}
__device__ inline bool needs_columns(const Sampling& sampling, const SampleRow& row) {
  return row.temperature > 0 && cuts_mass(row) && !cuts_rank(sampling, row) &&
         !has_room_for_all(sampling);
}

// Where in a column its sampled element stands: a chunk's columns have theirs at different places.
__device__ inline int32_t column_steps(const Sampling& sampling) {
  return (1 << sampling.chunk_bits) / kWarpThreads;
}
__device__ inline int32_t sampled_step(const Sampling& sampling, int32_t chunk, int32_t column) {
  const int32_t steps = column_steps(sampling);
  return (column * (steps / kWarpThreads) + 5 * chunk) % steps;
}

struct RowView {
  const SampleRow* row;
  const float* logits;
  ChunkState* chunks;
  ChunkSums* sums;
  RowPlan* plan;
  Rank* candidates;
  int32_t index;   // of the row
  bool is_edited;  // logits are not those in memory
};

__device__ inline RowView view_of(const Sampling& sampling, int32_t index, View view) {
  const SampleRow* row = sampling.args.rows + index;
  const int64_t place = int64_t{view} * sampling.num_rows + index;
  // A row without edits is scanned once for both views.
  const bool is_shared = view == kScore && draws(*row) && !is_edited(*row);
  const int64_t scanned = is_shared ? index : place;
  return {.row = row,
          .logits = sampling.args.logits + int64_t{index} * sampling.vocabulary_size,
          .chunks = sampling.chunks + scanned * sampling.num_chunks,
          .sums = sampling.sums + place * sampling.num_chunks,
          .plan = sampling.plans + place,
          .candidates = sampling.candidates + place * sampling.max_candidates,
          .index = index,
          .is_edited = view == kDraw && is_edited(*row)};
}

// A chunk's parts of the row's lists.
struct ChunkEdits {
  const SampleRow* row = nullptr;
  const SampleCount* counts = nullptr;
  const SampleBias* biases = nullptr;
  const int32_t* forbidden = nullptr;  // of the whole row
  int32_t num_counts = 0;
  int32_t num_biases = 0;
  int32_t num_forbidden = 0;

  __device__ bool has_any() const { return num_counts + num_biases + num_forbidden > 0; }
};

__device__ inline ChunkEdits edits_between(const Sampling& sampling, const SampleRow& row,
                                           int2 counts, int2 biases) {
  return {.row = &row,
          .counts = sampling.args.counts + row.first_count + counts.x,
          .biases = sampling.args.biases + row.first_bias + biases.x,
          .forbidden = sampling.args.forbidden + row.first_forbidden,
          .num_counts = counts.y - counts.x,
          .num_biases = biases.y - biases.x,
          .num_forbidden = row.num_forbidden};
}

__device__ inline ChunkEdits edits_of(const Sampling& sampling, const RowView& view,
                                      int32_t chunk) {
  if (!view.is_edited) return {};
  const SampleRow& row = *view.row;
  const bool is_last = chunk + 1 == sampling.num_chunks;
  const int32_t end_count = is_last ? row.num_counts : view.chunks[chunk + 1].first_count;
  const int32_t end_bias = is_last ? row.num_biases : view.chunks[chunk + 1].first_bias;
  return edits_between(sampling, row, {view.chunks[chunk].first_count, end_count},
                       {view.chunks[chunk].first_bias, end_bias});
}

__device__ inline float penalized(float x, const SampleRow& row, int32_t num_generated) {
  x = x > 0 ? x / row.repetition_penalty : x * row.repetition_penalty;
  if (num_generated > 0) {
    x -= row.frequency_penalty * static_cast<float>(num_generated);
    x -= row.presence_penalty;
  }
  return x;
}

// Step 1 of sampler.h for tile [kTile], the logits from id `first` on. By a warp.
__device__ inline void edit_tile(const ChunkEdits& edits, int32_t first, float* tile) {
#pragma unroll 1
  for (int32_t i = lane_index(); i < edits.num_counts; i += kWarpThreads) {
    const int32_t place = edits.counts[i].token_id - first;
    if (place < 0 || place >= kTile) continue;
    tile[place] = penalized(tile[place], *edits.row, edits.counts[i].num_generated);
  }
  warp_barrier();
#pragma unroll 1
  for (int32_t i = lane_index(); i < edits.num_biases; i += kWarpThreads) {
    const int32_t place = edits.biases[i].token_id - first;
    if (place >= 0 && place < kTile) tile[place] += edits.biases[i].bias;
  }
  warp_barrier();
#pragma unroll 1
  for (int32_t i = lane_index(); i < edits.num_forbidden; i += kWarpThreads) {
    const int32_t place = edits.forbidden[i] - first;
    if (place >= 0 && place < kTile) tile[place] = from_key(kKeyOfMinusInfinity);
  }
  warp_barrier();
}

// A lane's logits of a tile: z[j] is that of id first + j * kWarpThreads + lane.
struct Tile {
  int32_t first;
  int32_t size;  // ids of the vocabulary in it; the rest is -infinity
  float z[kTileLogits];

  __device__ int32_t place(int j) const { return j * kWarpThreads + lane_index(); }
  __device__ int32_t id(int j) const { return first + place(j); }
  __device__ bool has(int j) const { return place(j) < size; }
};

// By a warp; `buffer` [kTile] is its own.
__device__ inline Tile load_tile(const Sampling& sampling, const RowView& view,
                                 const ChunkEdits& edits, int32_t first, float* buffer) {
  Tile tile;
  tile.first = first;
  tile.size = min(kTile, sampling.vocabulary_size - first);
  const float* logits = view.logits + first;
#pragma unroll
  for (int j = 0; j < kTileLogits; ++j) {
    tile.z[j] = tile.has(j) ? logits[tile.place(j)] : from_key(kKeyOfMinusInfinity);
  }
  if (!edits.has_any()) return tile;
#pragma unroll
  for (int j = 0; j < kTileLogits; ++j) buffer[tile.place(j)] = tile.z[j];
  warp_barrier();
  edit_tile(edits, first, buffer);
#pragma unroll
  for (int j = 0; j < kTileLogits; ++j) tile.z[j] = buffer[tile.place(j)];
  warp_barrier();
  return tile;
}

__device__ inline int32_t first_id_of_chunk(const Sampling& sampling, int32_t chunk) {
  return chunk << sampling.chunk_bits;
}
// May be past the vocabulary, by less than a tile.
__device__ inline int32_t end_id_of_chunk(const Sampling& sampling, int32_t chunk) {
  return min((chunk + 1) << sampling.chunk_bits, sampling.vocabulary_size);
}

}  // namespace sluice::kernels::cuda
