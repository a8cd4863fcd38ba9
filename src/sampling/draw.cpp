#include "sampling/draw.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace sluice::sampling {
namespace {

// Distances from the maximum, after temperature, that the histogram spreads over its buckets;
// weights beyond are zero.
constexpr float kMaxDistance = 32.0f;

}  // namespace

bool Drawer::Cut::stricter_than(const Cut& other) const {
  return key > other.key || (key == other.key && last_index < other.last_index);
}

int32_t Drawer::draw(Row& row, const SamplingParams& params, uint64_t bits) {
  scale_ = {row.max(), 1.0f / params.temperature};
  if (params.top_k > 0 && narrow_to_top_k(row, params.top_k)) {
    return packed_index_[draw_row(packed_, params, bits)];
  }
  return draw_row(row, params, bits);
}

// Packs the few elements among which the top_k are. Their order by index stays, so every tie is
// decided as in the whole row. False if top_k is too large for this to be worth it.
bool Drawer::narrow_to_top_k(Row& row, int32_t top_k) {
  if (top_k > row.num_groups() / 2) return false;
  const int32_t lowest = row.key_reached_by(top_k);
  packed_z_.clear();
  packed_index_.clear();
  for (int32_t g = 0; g < row.num_groups(); ++g) {
    if (row.group_key(g) < lowest) continue;
    const auto part = row.group(g);
    for (size_t i = 0; i < part.size(); ++i) {
      if (key_of(part[i]) < lowest) continue;
      packed_z_.push_back(part[i]);
      packed_index_.push_back(g * kGroup + static_cast<int32_t>(i));
    }
  }
  packed_.scan(packed_z_);
  return true;
}

// The first index at which the running mass of what is kept exceeds bits * mass / 2^64.
int32_t Drawer::draw_row(const Row& row, const SamplingParams& params, uint64_t bits) {
  Selection kept = select(row, params);
  const bool is_weighed = kept.mass == 0;
  if (is_weighed) kept.mass = weigh_kept(row, kept.cut);
  __extension__ using Wide = unsigned __int128;
  auto rest = static_cast<uint64_t>((static_cast<Wide>(bits) * kept.mass) >> 64);
  std::array<uint64_t, kGroup> mass;
  int32_t g = 0;
  for (;; ++g) {
    if (row.group_key(g) < kept.cut.key) continue;
    const uint64_t of_group =
        is_weighed ? group_mass_[g] : weigh_group(row, g, kept.cut, mass.data());
    if (rest < of_group) break;
    rest -= of_group;
  }
  if (is_weighed) weigh_group(row, g, kept.cut, mass.data());
  int32_t i = 0;
  while (rest >= mass[i]) rest -= mass[i++];
  return g * kGroup + i;
}

uint64_t Drawer::weigh_kept(const Row& row, const Cut& cut) {
  group_mass_.resize(static_cast<size_t>(row.num_groups()));
  std::array<uint64_t, kGroup> mass;
  uint64_t sum = 0;
  for (int32_t g = 0; g < row.num_groups(); ++g) {
    if (row.group_key(g) < cut.key) continue;
    group_mass_[g] = weigh_group(row, g, cut, mass.data());
    sum += group_mass_[g];
  }
  return sum;
}

uint64_t Drawer::weigh_group(const Row& row, int32_t g, const Cut& cut, uint64_t* mass) const {
  const auto part = row.group(g);
  const auto size = static_cast<int>(part.size());
  const int32_t begin = g * kGroup;
  const bool ties_are_past = begin > cut.last_index;
  const int32_t lowest = ties_are_past ? cut.key + 1 : cut.key;
  uint64_t sum = row_kernels().weigh(part.data(), size, scale_, lowest, mass);
  if (ties_are_past || begin + size - 1 <= cut.last_index) return sum;
  for (int i = cut.last_index + 1 - begin; i < size; ++i) {
    if (key_of(part[i]) != cut.key) continue;
    sum -= mass[i];
    mass[i] = 0;
  }
  return sum;
}

Drawer::Selection Drawer::select(const Row& row, const SamplingParams& params) {
  Selection kept;
  const bool cuts_rank = params.top_k > 0 && params.top_k < row.size();
  if (cuts_rank || params.top_p < 1) {
    const uint64_t negligible = cuts_rank ? 0 : negligible_mass(row, params.top_p);
    kept.mass = fill_histogram(row, negligible, cuts_rank);
  }
  if (cuts_rank) kept = cut_by_rank(row, params.top_k);
  if (params.top_p < 1) kept = cut_by_mass(row, kept, params.top_p);
  if (params.min_p > 0) {
    const Cut by_ratio = cut_by_ratio(row, params.min_p);
    if (by_ratio.stricter_than(kept.cut)) kept = {by_ratio, 0};
  }
  return kept;
}

// A mass so small that all elements below it together are less than 1 - top_p of the whole: the cut
// is above them. The groups' maxima alone give a lower bound of the whole.
uint64_t Drawer::negligible_mass(const Row& row, float top_p) {
  const int32_t num_groups = row.num_groups();
  group_max_.resize(static_cast<size_t>(num_groups));
  group_max_mass_.resize(static_cast<size_t>(num_groups));
  for (int32_t g = 0; g < num_groups; ++g) group_max_[g] = from_key(row.group_key(g));
  uint64_t whole = 0;
  for (int32_t g = 0; g < num_groups; g += kGroup) {
    whole += row_kernels().weigh(&group_max_[g], std::min(kGroup, num_groups - g), scale_,
                                 INT32_MIN, &group_max_mass_[g]);
  }
  const double rest = (1.0 - static_cast<double>(top_p)) * static_cast<double>(whole);
  // A little less, so that no rounding of these few operations matters.
  return static_cast<uint64_t>(0.999 * rest / static_cast<double>(row.size()));
}

// Sums up the masses, and the numbers if asked for, of each bucket. Groups of which no element
// reaches `negligible` are left out of the buckets. Returns the mass of the whole row.
uint64_t Drawer::fill_histogram(const Row& row, uint64_t negligible, bool counts) {
  const float distance = (row.max() - row.min()) * scale_.inverse_temperature;
  buckets_per_unit_ = kNumBuckets / std::clamp(distance, 1e-30f, kMaxDistance);
  bucket_mass_.assign(kNumBuckets, 0);
  if (counts) bucket_count_.assign(kNumBuckets, 0);
  std::array<uint64_t, kGroup> mass;
  std::array<int32_t, kGroup> bucket;
  uint64_t whole = 0;
  for (int32_t g = 0; g < row.num_groups(); ++g) {
    const auto part = row.group(g);
    const auto size = static_cast<int>(part.size());
    whole += row_kernels().weigh(part.data(), size, scale_, INT32_MIN, mass.data());
    if (negligible > 0 && group_max_mass_[g] < negligible) continue;
    row_kernels().bucket(part.data(), size, scale_, buckets_per_unit_, bucket.data());
    for (int i = 0; i < size; ++i) bucket_mass_[bucket[i]] += mass[i];
    if (!counts) continue;
    for (int i = 0; i < size; ++i) ++bucket_count_[bucket[i]];
  }
  return whole;
}

void Drawer::collect_bucket(const Row& row, int32_t bucket) {
  candidates_.clear();
  std::array<uint64_t, kGroup> mass;
  std::array<int32_t, kGroup> buckets;
  for (int32_t g = 0; g < row.num_groups(); ++g) {
    const auto part = row.group(g);
    const auto size = static_cast<int>(part.size());
    const float largest = from_key(row.group_key(g));
    row_kernels().bucket(&largest, 1, scale_, buckets_per_unit_, buckets.data());
    if (buckets[0] > bucket) continue;
    row_kernels().bucket(part.data(), size, scale_, buckets_per_unit_, buckets.data());
    if (std::find(buckets.data(), buckets.data() + size, bucket) == buckets.data() + size) continue;
    row_kernels().weigh(part.data(), size, scale_, INT32_MIN, mass.data());
    for (int i = 0; i < size; ++i) {
      if (buckets[i] != bucket) continue;
      candidates_.push_back({key_of(part[i]), g * kGroup + i, mass[i]});
    }
  }
}

namespace {

template <typename Candidate>
bool goes_before(const Candidate& a, const Candidate& b) {
  return a.key > b.key || (a.key == b.key && a.index < b.index);
}

}  // namespace

Drawer::Selection Drawer::cut_by_rank(const Row& row, int32_t count) {
  Selection selected;
  int32_t bucket = 0;
  auto rest = static_cast<uint32_t>(count);
  for (; rest > bucket_count_[bucket]; ++bucket) {
    rest -= bucket_count_[bucket];
    selected.mass += bucket_mass_[bucket];
  }
  collect_bucket(row, bucket);
  const auto last = candidates_.begin() + (rest - 1);
  std::nth_element(candidates_.begin(), last, candidates_.end(), goes_before<Candidate>);
  for (auto kept = candidates_.begin(); kept <= last; ++kept) selected.mass += kept->mass;
  selected.cut = {last->key, last->index};
  return selected;
}

// The candidates of the bucket where the mass is reached are halved around their median until one
// is left: the last of the shortest beginning that has the mass.
Drawer::Selection Drawer::cut_by_mass(const Row& row, const Selection& within, float fraction) {
  const double wanted = std::ceil(static_cast<double>(fraction) * static_cast<double>(within.mass));
  uint64_t rest = std::clamp<uint64_t>(static_cast<uint64_t>(wanted), 1, within.mass);
  uint64_t before = rest;
  int32_t bucket = 0;
  for (; rest > bucket_mass_[bucket]; ++bucket) rest -= bucket_mass_[bucket];
  collect_bucket(row, bucket);
  std::span<Candidate> open(candidates_);
  while (open.size() > 1) {
    const size_t half = open.size() / 2;
    std::nth_element(open.begin(), open.begin() + static_cast<std::ptrdiff_t>(half), open.end(),
                     goes_before<Candidate>);
    uint64_t upper = 0;
    for (const Candidate& candidate : open.first(half)) upper += candidate.mass;
    if (upper >= rest) {
      open = open.first(half);
    } else {
      rest -= upper;
      open = open.subspan(half);
    }
  }
  before -= rest;
  return {{open[0].key, open[0].index}, before + open[0].mass};
}

// The lowest key whose logit, scaled, is at least ln(min_p), by bisection over all keys: scaling
// keeps the order.
Drawer::Cut Drawer::cut_by_ratio(const Row& row, float min_p) const {
  const auto limit = static_cast<float>(-natural_log(1.0 / static_cast<double>(min_p)));
  int64_t lowest = kKeyOfMinusInfinity;
  int64_t highest = key_of(row.max());
  while (lowest < highest) {
    const int64_t middle = lowest + (highest - lowest) / 2;
    const float z = from_key(static_cast<int32_t>(middle));
    if ((z - scale_.max) * scale_.inverse_temperature >= limit) {
      highest = middle;
    } else {
      lowest = middle + 1;
    }
  }
  return {static_cast<int32_t>(lowest), INT32_MAX};
}

}  // namespace sluice::sampling
