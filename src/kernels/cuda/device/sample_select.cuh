#pragma once

#include <cstdint>

#include "kernels/cuda/device/sample_rows.cuh"

// How one block finds its way in a row: where a running amount, along the row's order or its ids,
// reaches what is wanted. The amount is a number of elements or their mass.
namespace sluice::kernels::cuda {

inline constexpr int32_t kListSize = 2048;
inline constexpr int kBucketBits = 10;
inline constexpr int32_t kBuckets = 1 << kBucketBits;

// What is kept: keys above `key`, and of those equal to it the ids up to `last_id`.
struct Cut {
  int32_t key = INT32_MIN;
  int32_t last_id = INT32_MAX;

  __device__ bool keeps(int32_t other, int32_t id) const {
    return other > key || (other == key && id <= last_id);
  }
  __device__ bool is_stricter_than(const Cut& other) const {
    return key > other.key || (key == other.key && last_id < other.last_id);
  }
};

enum class By { kCount, kMass };

// What a block works with: one row in one view. In the block's work.
struct Work {
  Sampling sampling;
  RowView view;
  RowPlan plan;
  bool has_range;       // the plan says where the cut may be
  bool has_candidates;  // ... and all elements there are among the candidates
  Rank list[kListSize];
  Amount amounts[kListSize];  // of the list, or of the buckets
  uint32_t counts[kBuckets];
  Amount chunk_amounts[kMaxChunks];
  Amount tile_amounts[kMaxChunkTiles];
  int32_t chunk_keys[kMaxChunks];  // the largest
  BlockScratch scratch;
  float buffers[kSampleWarps][kTile];

  // What an element with this key counts for.
  __device__ uint64_t amount(By by, int32_t key) const {
    return by == By::kCount ? 1 : mass_of(from_key(key), plan.scale);
  }
};

__device__ inline void begin_work(Work& work, const Sampling& sampling, int32_t index,
                                  View view_index) {
  block_barrier();
  if (threadIdx.x == 0) {
    work.sampling = sampling;
    work.view = view_of(sampling, index, view_index);
    work.plan = *work.view.plan;
    work.has_range = work.plan.lowest <= work.plan.max_key;
    work.has_candidates = work.has_range && work.plan.num_candidates <= sampling.max_candidates;
  }
  block_barrier();
#pragma unroll 1
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < sampling.num_chunks;
       c += kSampleThreads) {
    work.chunk_keys[c] = key_of_rank(work.view.chunks[c].best);
  }
  block_barrier();
}

// Calls visit(tile, chunk) for all tiles of the chunks that reach `lowest`, each warp for its own.
// The tile's logits lie in memory, where a loop over them needs little code.
struct StoredTile {
  const float* z;  // [kTile]
  int32_t first;
  int32_t size;
};

__device__ __attribute__((noinline)) inline StoredTile store_tile(Work& work, int32_t chunk,
                                                                  int32_t first) {
  float* buffer = work.buffers[warp_index()];
  const ChunkEdits edits = edits_of(work.sampling, work.view, chunk);
  warp_barrier();
  const Tile tile = load_tile(work.sampling, work.view, edits, first, buffer);
#pragma unroll
  for (int j = 0; j < kTileLogits; ++j) buffer[tile.place(j)] = tile.z[j];
  warp_barrier();
  return {buffer, first, tile.size};
}

template <typename Visit>
__device__ void visit_tiles(Work& work, int32_t lowest, Visit visit) {
  const int32_t size = work.sampling.vocabulary_size;
#pragma unroll 1
  for (int32_t first = warp_index() * kTile; first < size; first += kSampleWarps * kTile) {
    const int32_t chunk = first >> work.sampling.chunk_bits;
    if (work.chunk_keys[chunk] >= lowest) visit(store_tile(work, chunk, first), chunk);
  }
}

// Calls visit(key, id) for all elements of those tiles.
template <typename Visit>
__device__ void visit_row(Work& work, int32_t lowest, Visit visit) {
  visit_tiles(work, lowest, [&](const StoredTile& tile, int32_t) {
#pragma unroll 1
    for (int32_t i = lane_index(); i < tile.size; i += kWarpThreads) {
      visit(key_of(tile.z[i]), tile.first + i);
    }
  });
}

template <typename Visit>
__device__ void visit_candidates(const Work& work, Visit visit) {
  const auto size = static_cast<int32_t>(work.plan.num_candidates);
#pragma unroll 1
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < size; i += kSampleThreads) {
    const Rank rank = work.view.candidates[i];
    visit(key_of_rank(rank), id_of_rank(rank));
  }
}

// The place along the row's order where a running amount reaches `target`, looked for among the
// elements with keys in [lowest, highest].
struct Search {
  By by;
  uint64_t target;
  bool in_candidates;  // where those elements are found; else in the row
  int32_t lowest;
  int32_t highest;
  uint64_t above;  // amount of keys above `highest`
  uint32_t count;  // elements; more than kListSize: not known
};

template <typename Visit>
__device__ void visit_range(Work& work, const Search& search, Visit visit) {
  const auto visit_inside = [&](int32_t key, int32_t id) {
    if (key >= search.lowest && key <= search.highest) visit(key, id);
  };
  if (search.in_candidates) {
    visit_candidates(work, visit_inside);
  } else {
    visit_row(work, search.lowest, visit_inside);
  }
}

// Narrows the search to a part 2^kBucketBits times as small. False if the place is not in the
// range.
__device__ __attribute__((noinline)) inline bool narrow(Work& work, Search& search) {
  const auto highest = static_cast<uint32_t>(search.highest);
  const uint32_t width = highest - static_cast<uint32_t>(search.lowest);
  int shift = 0;
  while (width >> shift >= kBuckets) ++shift;
  block_barrier();
#pragma unroll 1
  for (int32_t b = static_cast<int32_t>(threadIdx.x); b < kBuckets; b += kSampleThreads) {
    work.amounts[b] = amount_of(0);
    work.counts[b] = 0;
  }
  block_barrier();
  visit_range(work, search, [&](int32_t key, int32_t) {
    const uint32_t bucket = (highest - static_cast<uint32_t>(key)) >> shift;
    atomicAdd(&work.counts[bucket], 1u);
    add_at_once(work.amounts[bucket], work.amount(search.by, key));
  });
  const Found found =
      block_find(work.amounts, kBuckets, search.target - search.above - 1, work.scratch);
  if (found.index == kBuckets) return false;
  const uint32_t distance = static_cast<uint32_t>(found.index) << shift;
  const uint32_t rest = width - distance;
  const uint32_t bucket_width = (1u << shift) - 1;
  search.highest = static_cast<int32_t>(highest - distance);
  search.lowest = static_cast<int32_t>(highest - distance - min(rest, bucket_width));
  search.above += found.before;
  search.count = work.counts[found.index];
  return true;
}

// Puts the elements of the search's range into the list, best first. Requires: at most kListSize.
__device__ __attribute__((noinline)) inline int32_t collect_sorted(Work& work,
                                                                   const Search& search) {
  block_barrier();
  if (threadIdx.x == 0) work.scratch.counter = 0;
  block_barrier();
  visit_range(work, search, [&](int32_t key, int32_t id) {
    const uint32_t place = atomicAdd(&work.scratch.counter, 1u);
    if (place < kListSize) work.list[place] = rank_of(key, id);
  });
  block_barrier();
  const auto size = static_cast<int32_t>(min(work.scratch.counter, uint32_t{kListSize}));
  block_sort(work.list, size);
  return size;
}

// What an element adds to a running amount along the row's ids.
struct Share {
  Cut cut;
  bool is_tie;  // 1 for every element with the cut's key, else the mass of what the cut keeps
  WeightScale scale;
  int32_t highest = INT32_MAX;  // larger keys do not count

  __device__ uint64_t of(int32_t key, int32_t id) const {
    if (is_tie) return key == cut.key ? 1 : 0;
    return cut.keeps(key, id) && key <= highest ? mass_of(from_key(key), scale) : 0;
  }
};

__device__ inline void clear_chunk_amounts(Work& work) {
  block_barrier();
#pragma unroll 1
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < work.sampling.num_chunks;
       c += kSampleThreads) {
    work.chunk_amounts[c] = amount_of(0);
  }
  block_barrier();
}

__device__ inline uint64_t share_of_tile(const Share& share, const StoredTile& tile) {
  uint64_t sum = 0;
#pragma unroll 1
  for (int32_t i = lane_index(); i < tile.size; i += kWarpThreads) {
    sum += share.of(key_of(tile.z[i]), tile.first + i);
  }
  return warp_sum(sum);
}

// Fills chunk_amounts.
__device__ __attribute__((noinline)) inline void sum_up_chunks(Work& work, const Share& share) {
  clear_chunk_amounts(work);
  visit_tiles(work, share.cut.key, [&](const StoredTile& tile, int32_t chunk) {
    const uint64_t sum = share_of_tile(share, tile);
    if (lane_index() == 0) add_at_once(work.chunk_amounts[chunk], sum);
  });
  block_barrier();
}

// The id in a tile at which the running amount exceeds `rest`, to scratch.index. By the first warp.
__device__ inline void find_in_tile(Work& work, const StoredTile& tile, const Share& share,
                                    uint64_t rest) {
  uint64_t before = 0;
#pragma unroll 1
  for (int32_t first = 0; first < kTile; first += kWarpThreads) {
    const int32_t i = first + lane_index();
    const int32_t id = tile.first + i;
    const uint64_t own = i < tile.size ? share.of(key_of(tile.z[i]), id) : 0;
    const uint64_t running = before + warp_running_sum(own);
    if (running - own <= rest && rest < running) work.scratch.index = id;
    before = warp_shuffle(running, kWarpThreads - 1);
  }
}

// The id at which the running amount of chunk_amounts exceeds `rest`; -1 if none.
__device__ __attribute__((noinline)) inline int32_t find_id(Work& work, const Share& share,
                                                            uint64_t rest) {
  const Sampling& sampling = work.sampling;
  const Found chunk = block_find(work.chunk_amounts, sampling.num_chunks, rest, work.scratch);
  if (chunk.index == sampling.num_chunks) return -1;
  rest -= chunk.before;
  const int32_t begin = first_id_of_chunk(sampling, chunk.index);
  const int32_t num_tiles = (end_id_of_chunk(sampling, chunk.index) - begin + kTile - 1) / kTile;
#pragma unroll 1
  for (int32_t t = warp_index(); t < num_tiles; t += kSampleWarps) {
    const StoredTile tile = store_tile(work, chunk.index, begin + t * kTile);
    const uint64_t sum = share_of_tile(share, tile);
    if (lane_index() == 0) work.tile_amounts[t] = amount_of(sum);
  }
  const Found place = block_find(work.tile_amounts, num_tiles, rest, work.scratch);
  if (warp_index() == 0) {
    const StoredTile tile = store_tile(work, chunk.index, begin + place.index * kTile);
    find_in_tile(work, tile, share, rest - place.before);
  }
  block_barrier();
  const int32_t id = work.scratch.index;
  block_barrier();
  return id;
}

// The cut where the search's range is one key: so many of its elements, by their ids.
__device__ __attribute__((noinline)) inline bool find_among_ties(Work& work, const Search& search,
                                                                 Cut& cut) {
  const uint64_t amount = work.amount(search.by, search.lowest);
  if (amount == 0) return false;
  const uint64_t num_before = (search.target - search.above - 1) / amount;
  const Share ties{.cut = {search.lowest, INT32_MAX}, .is_tie = true, .scale = work.plan.scale};
  sum_up_chunks(work, ties);
  cut = {search.lowest, find_id(work, ties, num_before)};
  return cut.last_id >= 0;
}

// False if the place is not in the search's range.
__device__ __attribute__((noinline)) inline bool find_place(Work& work, Search search, Cut& cut) {
  if (search.target <= search.above) return false;
  while (search.lowest < search.highest && search.count > kListSize) {
    if (!narrow(work, search)) return false;
  }
  if (search.lowest == search.highest) return find_among_ties(work, search, cut);
  const int32_t size = collect_sorted(work, search);
#pragma unroll 1
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < size; i += kSampleThreads) {
    work.amounts[i] = amount_of(work.amount(search.by, key_of_rank(work.list[i])));
  }
  const Found found =
      block_find(work.amounts, size, search.target - search.above - 1, work.scratch);
  if (found.index == size) return false;
  cut = {key_of_rank(work.list[found.index]), id_of_rank(work.list[found.index])};
  return true;
}

// The last of the shortest beginning of the row's order whose amount is at least `target`.
// Requires: 1 <= target <= the whole row's amount.
__device__ __attribute__((noinline)) inline Cut find_cut(Work& work, By by, uint64_t target) {
  const RowPlan& plan = work.plan;
  Cut cut;
  if (work.has_range) {
    uint64_t above = 0;
#pragma unroll 1
    for (int32_t c = static_cast<int32_t>(threadIdx.x); c < work.sampling.num_chunks;
         c += kSampleThreads) {
      const ChunkSums& sums = work.view.sums[c];
      above += by == By::kMass ? sums.above_mass : static_cast<uint64_t>(sums.num_above);
    }
    const Search search{.by = by,
                        .target = target,
                        .in_candidates = work.has_candidates,
                        .lowest = plan.lowest,
                        .highest = plan.highest,
                        .above = block_sum(above, work.scratch),
                        .count = plan.num_candidates};
    if (find_place(work, search, cut)) return cut;
  }
  const Search search{.by = by,
                      .target = target,
                      .in_candidates = false,
                      .lowest = plan.min_key,
                      .highest = plan.max_key,
                      .above = 0,
                      .count = static_cast<uint32_t>(work.sampling.vocabulary_size)};
  find_place(work, search, cut);
  return cut;
}

}  // namespace sluice::kernels::cuda
