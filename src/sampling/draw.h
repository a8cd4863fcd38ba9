#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/params.h"
#include "sampling/row.h"

namespace sluice::sampling {

// Steps 2 to 4 of sampler.h for one row after its penalties: cuts and the draw.
//
// The cuts are found by one histogram of weights over the distance from the maximum and an exact
// selection inside the one bucket where the limit falls; nothing sorts the row. Three passes at
// most: the scan, the histogram, the weights that are left.
// Reused from row to row for its memory. Threads: one.
class Drawer final {
 public:
  // Draws an index of `row` with the random bits.
  // Requires: row.scan() was done, is finite, has_anything(); temperature >= kGreedyTemperature.
  int32_t draw(Row& row, const SamplingParams& params, uint64_t bits);

 private:
  // What is kept: keys above `key`, and of those equal to it the indexes up to `last_index`.
  struct Cut {
    int32_t key = INT32_MIN;
    int32_t last_index = INT32_MAX;
    // True if this keeps less than `other`.
    bool stricter_than(const Cut& other) const;
  };
  struct Candidate {
    int32_t key;
    int32_t index;
    uint64_t mass;
  };
  // A cut and the mass that it keeps; 0 if that is not known yet.
  struct Selection {
    Cut cut;
    uint64_t mass = 0;
  };

  bool narrow_to_top_k(Row& row, int32_t top_k);
  int32_t draw_row(const Row& row, const SamplingParams& params, uint64_t bits);
  Selection select(const Row& row, const SamplingParams& params);
  uint64_t weigh_kept(const Row& row, const Cut& cut);
  uint64_t fill_histogram(const Row& row, uint64_t negligible, bool counts);
  uint64_t negligible_mass(const Row& row, float top_p);
  void collect_bucket(const Row& row, int32_t bucket);
  Selection cut_by_rank(const Row& row, int32_t count);
  Selection cut_by_mass(const Row& row, const Selection& within, float fraction);
  Cut cut_by_ratio(const Row& row, float min_p) const;
  uint64_t weigh_group(const Row& row, int32_t g, const Cut& cut, uint64_t* mass) const;

  WeightScale scale_{};
  float buckets_per_unit_ = 0;
  std::vector<uint64_t> bucket_mass_;   // [kNumBuckets]
  std::vector<uint32_t> bucket_count_;  // [kNumBuckets], if a rank is looked for
  std::vector<float> group_max_;
  std::vector<uint64_t> group_max_mass_;
  std::vector<Candidate> candidates_;
  std::vector<uint64_t> group_mass_;  // of what is kept
  // The row that top_k leaves, packed together: its logits, their indexes in the whole row.
  std::vector<float> packed_z_;
  std::vector<int32_t> packed_index_;
  Row packed_;
};

}  // namespace sluice::sampling
