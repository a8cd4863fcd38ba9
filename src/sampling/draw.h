#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sampling/params.h"
#include "sampling/row.h"

namespace sluice::sampling {

// Steps 2 to 4 of sampler.h for one row after its penalties: cuts and the draw.
//
// Nothing sorts the row. A cut by mass is looked for inside a bracket that the row's largest
// elements and a sample of the others suggest: one pass sums what lies above it and collects what
// lies inside, an exact selection among those follows. A cut by rank is looked for in the same way,
// by counts, and what it keeps is packed into a row of its own. Three passes over the row: the
// scan, the bracket, the weights that are left or their packing. Where a guess misleads, and for
// ties at a rank, a histogram of weights over the distance from the maximum does the same in two
// more.
//
// Reused from row to row for its memory. Threads: one.
class Drawer final {
 public:
  // Memory for rows of this size; what a cut leaves to be looked at one by one may need more.
  void reserve(int32_t size);
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
    bool has_group_mass = false;  // group_mass_ is known, see kept_group_mass
    size_t num_inside = 0;        // elements that cut_in_bracket collected, 0 without it
  };

  bool narrow_to_top_k(Row& row, int32_t top_k);
  std::optional<Bracket> bracket_of_rank(Row& row, int32_t rank);
  std::optional<int32_t> key_of_rank(const Row& row, Bracket range, int32_t count);
  void narrow_inside_by_rank(Bracket range, size_t num_inside, int64_t& rank);
  void pack(const Row& row, int32_t key);
  int32_t draw_row(const Row& row, const SamplingParams& params, uint64_t bits);
  // What a row's mass is thought to be: that of its heavy groups, by buckets in known_mass_, and of
  // the others what a sample, by buckets in bucket_mass_, tells.
  struct Estimate {
    double known = 0;
    double sampled = 0;      // of all that the sample was drawn from
    double enlargement = 0;  // that by the sample itself
    double squares = 0;      // sum of the squares of the sample's masses
    int32_t num_sampled_from = 0;

    double mass() const { return known + sampled; }
  };

  std::optional<Bracket> bracket(const Row& row, float top_p);
  std::optional<Bracket> bracket_of_few(const Row& row, double p, const Estimate& estimate);
  void weigh_heavy_groups(const Row& row, Estimate& estimate);
  void draw_sample(const Row& row, int num_elements, Estimate& estimate);
  double margin_of(const Estimate& estimate, double p) const;
  int32_t bucket_of_share(const Estimate& estimate, double share) const;
  void set_buckets(const Row& row);
  float logit_at(const Row& row, int32_t bucket) const;
  uint64_t weigh_group_maxima(const Row& row);
  std::optional<Selection> cut_in_bracket(const Row& row, float top_p);
  void resize_inside(size_t most);
  uint64_t kept_group_mass(const Selection& kept, int32_t g, size_t& next) const;
  uint64_t weigh_inside(size_t num_inside);
  void bucket_inside(Bracket range, size_t num_inside);
  void narrow_inside(Bracket range, size_t num_inside, uint64_t& rest);
  static Candidate find_last(std::span<Candidate> open, uint64_t& rest);
  Selection select(const Row& row, const SamplingParams& params);
  uint64_t weigh_kept(const Row& row, const Cut& cut);
  uint64_t fill_histogram(const Row& row, uint64_t negligible, bool counts);
  uint64_t negligible_mass(const Row& row, float top_p);
  void collect_bucket(const Row& row, int32_t bucket);
  Selection cut_by_rank(const Row& row, int32_t count);
  Selection cut_by_mass(const Row& row, const Selection& within, float fraction);
  static bool goes_before(const Candidate& a, const Candidate& b);
  Cut cut_by_ratio(const Row& row, float min_p) const;
  uint64_t weigh_group(const Row& row, int32_t g, const Cut& cut, uint64_t* mass) const;

  WeightScale scale_{};
  float buckets_per_unit_ = 0;
  std::vector<uint64_t> bucket_mass_;   // [kNumBuckets]
  std::vector<uint32_t> bucket_count_;  // [kNumBuckets], if a rank is looked for
  std::vector<float> group_max_;
  std::vector<uint64_t> group_max_mass_;
  std::vector<uint64_t> known_mass_;  // [kNumBuckets], see Estimate
  uint64_t heavy_mass_ = 0;           // a group is heavy if its maximum has it
  std::vector<Candidate> candidates_;
  // Elements inside the bracket, in order of their indexes; more room than elements.
  std::vector<float> inside_z_;
  std::vector<int32_t> inside_index_;
  std::vector<uint64_t> inside_mass_;
  std::vector<int32_t> inside_bucket_;
  std::vector<uint64_t> group_mass_;  // of what is kept
  // The row that top_k leaves, packed together: its logits, their indexes in the whole row.
  std::vector<float> packed_z_;
  std::vector<int32_t> packed_index_;
  Row packed_;
};

}  // namespace sluice::sampling
