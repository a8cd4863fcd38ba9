#include "sampling/draw.h"

#include <algorithm>
#include <array>
#include <limits>

namespace sluice::sampling {
namespace {

// Elements of a row inside a bracket beyond which the bracket says too little.
size_t most_inside(size_t row_size) {
  return row_size / 4 + kGroup;
}

}  // namespace

bool Drawer::Cut::stricter_than(const Cut& other) const {
  return key > other.key || (key == other.key && last_index < other.last_index);
}

void Drawer::reserve(int32_t size) {
  constexpr size_t kFew = 8192;
  const auto num_groups = static_cast<size_t>(size / kGroup + 1);
  bucket_mass_.reserve(kNumBuckets);
  bucket_count_.reserve(kNumBuckets);
  known_mass_.reserve(kNumBuckets);
  group_max_.reserve(num_groups);
  group_max_mass_.reserve(num_groups);
  group_mass_.reserve(num_groups);
  candidates_.reserve(kFew);
  resize_inside(most_inside(static_cast<size_t>(size)));
  packed_z_.reserve(kFew);
  packed_index_.reserve(kFew);
  packed_.reserve(static_cast<int32_t>(kFew));
}

// Room for what `split` collects until it is too much: that and a group more.
void Drawer::resize_inside(size_t most) {
  const size_t size = std::max(inside_z_.size(), most + size_t{2} * kGroup);
  inside_z_.resize(size);
  inside_index_.resize(size);
  inside_mass_.resize(size);
  inside_bucket_.resize(size);
}

int32_t Drawer::draw(Row& row, const SamplingParams& params, uint64_t bits) {
  scale_ = {row.max(), 1.0f / params.temperature};
  if (params.top_k > 0 && narrow_to_top_k(row, params.top_k)) {
    return packed_index_[draw_row(packed_, params, bits)];
  }
  return draw_row(row, params, bits);
}

// Packs the top_k elements and what ties with the last of them. Their order by index stays, so
// every tie is decided as in the whole row. False if that could not be told beforehand.
bool Drawer::narrow_to_top_k(Row& row, int32_t top_k) {
  if (top_k >= row.size()) return false;
  const std::optional<Bracket> range = bracket_of_rank(row, top_k);
  if (!range) return false;
  const std::optional<int32_t> key = key_of_rank(row, *range, top_k);
  if (!key) return false;
  pack(row, *key);
  packed_.scan(packed_z_);
  return true;
}

// The key of the last of `count` elements; nullopt if it lies outside the bracket, or too much
// inside.
std::optional<int32_t> Drawer::key_of_rank(const Row& row, Bracket range, int32_t count) {
  const size_t most = most_inside(row.z().size());
  resize_inside(most);
  const int32_t lowest_key = key_of(range.lowest);
  size_t num_inside = 0;
  int32_t num_above = 0;
  for (int32_t g = 0; g < row.num_groups(); ++g) {
    if (row.group_key(g) < lowest_key) continue;
    const auto part = row.group(g);
    const GroupCount found =
        row_kernels().collect(part.data(), static_cast<int>(part.size()), range,
                              {&inside_z_[num_inside], &inside_index_[num_inside], g * kGroup});
    num_above += found.num_above;
    num_inside += static_cast<size_t>(found.num_inside);
    if (num_inside > most) return std::nullopt;
  }
  int64_t rank = int64_t{count} - num_above;
  if (rank < 1 || rank > static_cast<int64_t>(num_inside)) return std::nullopt;
  narrow_inside_by_rank(range, num_inside, rank);
  const auto last = candidates_.begin() + (rank - 1);
  std::nth_element(candidates_.begin(), last, candidates_.end(), goes_before);
  return last->key;
}

// As narrow_inside, for a rank: `rank` becomes the place among the candidates.
void Drawer::narrow_inside_by_rank(Bracket range, size_t num_inside, int64_t& rank) {
  int32_t bucket = 0;
  bucket_inside(range, num_inside);
  bucket_count_.assign(kNumBuckets, 0);
  for (size_t i = 0; i < num_inside; ++i) ++bucket_count_[inside_bucket_[i]];
  for (; rank > bucket_count_[bucket]; ++bucket) rank -= bucket_count_[bucket];
  candidates_.clear();
  for (size_t i = 0; i < num_inside; ++i) {
    if (inside_bucket_[i] != bucket) continue;
    candidates_.push_back({key_of(inside_z_[i]), inside_index_[i], 0});
  }
}

// The elements with this key or a larger one, and their indexes, by index.
void Drawer::pack(const Row& row, int32_t key) {
  const Bracket kept{from_key(key), std::numeric_limits<float>::infinity()};
  packed_z_.clear();
  packed_index_.clear();
  for (int32_t g = 0; g < row.num_groups(); ++g) {
    if (row.group_key(g) < key) continue;
    const auto part = row.group(g);
    const size_t before = packed_z_.size();
    packed_z_.resize(before + 2 * size_t{kGroup});
    packed_index_.resize(before + 2 * size_t{kGroup});
    const GroupCount found =
        row_kernels().collect(part.data(), static_cast<int>(part.size()), kept,
                              {&packed_z_[before], &packed_index_[before], g * kGroup});
    packed_z_.resize(before + static_cast<size_t>(found.num_inside));
    packed_index_.resize(before + static_cast<size_t>(found.num_inside));
  }
}

// The first index at which the running mass of what is kept exceeds bits * mass / 2^64.
int32_t Drawer::draw_row(const Row& row, const SamplingParams& params, uint64_t bits) {
  Selection kept = select(row, params);
  if (kept.mass == 0) {
    kept.mass = weigh_kept(row, kept.cut);
    kept.has_group_mass = true;
  }
  uint64_t rest = kernels::drawn_mass(bits, kept.mass);
  std::array<uint64_t, kGroup> mass;
  size_t next_inside = 0;
  int32_t g = 0;
  for (;; ++g) {
    if (row.group_key(g) < kept.cut.key) continue;
    const uint64_t of_group = kept.has_group_mass ? kept_group_mass(kept, g, next_inside)
                                                  : weigh_group(row, g, kept.cut, mass.data());
    if (rest < of_group) break;
    rest -= of_group;
  }
  weigh_group(row, g, kept.cut, mass.data());
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
    const auto part = row.group(g);
    group_mass_[g] = cut.key == INT32_MIN ? row_kernels().weigh_all(
                                                part.data(), static_cast<int>(part.size()), scale_)
                                          : weigh_group(row, g, cut, mass.data());
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
  const bool cuts_mass = params.top_p < 1;
  const auto in_bracket =
      cuts_mass && !cuts_rank ? cut_in_bracket(row, params.top_p) : std::nullopt;
  if (in_bracket) {
    kept = *in_bracket;
  } else if (cuts_rank || cuts_mass) {
    const uint64_t negligible = cuts_rank ? 0 : negligible_mass(row, params.top_p);
    kept.mass = fill_histogram(row, negligible, cuts_rank);
    if (cuts_rank) kept = cut_by_rank(row, params.top_k);
    if (cuts_mass) kept = cut_by_mass(row, kept, params.top_p);
  }
  if (params.min_p > 0) {
    const Cut by_ratio = cut_by_ratio(row, params.min_p);
    if (by_ratio.stricter_than(kept.cut)) kept = {by_ratio, 0};
  }
  return kept;
}

// A mass so small that all elements below it together are less than 1 - top_p of the whole: the cut
// is above them. The groups' maxima alone give a lower bound of the whole.
uint64_t Drawer::negligible_mass(const Row& row, float top_p) {
  const uint64_t whole = weigh_group_maxima(row);
  const double rest = (1.0 - static_cast<double>(top_p)) * static_cast<double>(whole);
  // A little less, so that no rounding of these few operations matters.
  return static_cast<uint64_t>(0.999 * rest / static_cast<double>(row.size()));
}

uint64_t Drawer::weigh_group_maxima(const Row& row) {
  const int32_t num_groups = row.num_groups();
  group_max_.resize(static_cast<size_t>(num_groups));
  group_max_mass_.resize(static_cast<size_t>(num_groups));
  for (int32_t g = 0; g < num_groups; ++g) group_max_[g] = from_key(row.group_key(g));
  uint64_t whole = 0;
  for (int32_t g = 0; g < num_groups; g += kGroup) {
    whole += row_kernels().weigh(&group_max_[g], std::min(kGroup, num_groups - g), scale_,
                                 INT32_MIN, &group_max_mass_[g]);
  }
  return whole;
}

// Sums up the masses, and the numbers if asked for, of each bucket. Groups of which no element
// reaches `negligible` are left out of the buckets. Returns the mass of the whole row.
uint64_t Drawer::fill_histogram(const Row& row, uint64_t negligible, bool counts) {
  set_buckets(row);
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

bool Drawer::goes_before(const Candidate& a, const Candidate& b) {
  return a.key > b.key || (a.key == b.key && a.index < b.index);
}

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
  std::nth_element(candidates_.begin(), last, candidates_.end(), goes_before);
  for (auto kept = candidates_.begin(); kept <= last; ++kept) selected.mass += kept->mass;
  selected.cut = {last->key, last->index};
  return selected;
}

Drawer::Selection Drawer::cut_by_mass(const Row& row, const Selection& within, float fraction) {
  uint64_t rest = kernels::wanted_mass(within.mass, fraction);
  uint64_t before = rest;
  int32_t bucket = 0;
  for (; rest > bucket_mass_[bucket]; ++bucket) rest -= bucket_mass_[bucket];
  collect_bucket(row, bucket);
  const Candidate last = find_last(candidates_, rest);
  return {{last.key, last.index}, before - rest + last.mass};
}

// Halves the candidates around their median until one is left: the last of the shortest beginning
// that has the mass `rest`. Of that, `rest` keeps what the ones before it leave to the last.
Drawer::Candidate Drawer::find_last(std::span<Candidate> open, uint64_t& rest) {
  while (open.size() > 1) {
    const size_t half = open.size() / 2;
    std::nth_element(open.begin(), open.begin() + static_cast<std::ptrdiff_t>(half), open.end(),
                     goes_before);
    uint64_t upper = 0;
    for (const Candidate& candidate : open.first(half)) upper += candidate.mass;
    if (upper >= rest) {
      open = open.first(half);
    } else {
      rest -= upper;
      open = open.subspan(half);
    }
  }
  return open[0];
}

// Nullopt if the cut lies outside the bracket, or too much lies inside.
std::optional<Drawer::Selection> Drawer::cut_in_bracket(const Row& row, float top_p) {
  const std::optional<Bracket> range = bracket(row, top_p);
  if (!range) return std::nullopt;
  const size_t most = most_inside(row.z().size());
  resize_inside(most);
  group_mass_.resize(static_cast<size_t>(row.num_groups()));
  const int32_t lowest_key = key_of(range->lowest);
  size_t num_inside = 0;
  uint64_t whole = 0;
  uint64_t above = 0;
  for (int32_t g = 0; g < row.num_groups(); ++g) {
    const auto part = row.group(g);
    const auto size = static_cast<int>(part.size());
    if (row.group_key(g) < lowest_key) {
      whole += row_kernels().weigh_all(part.data(), size, scale_);
      group_mass_[g] = 0;
      continue;
    }
    const GroupSplit sums =
        row_kernels().split(part.data(), size, scale_, *range,
                            {&inside_z_[num_inside], &inside_index_[num_inside], g * kGroup});
    whole += sums.whole;
    above += sums.above;
    group_mass_[g] = sums.above;
    num_inside += static_cast<size_t>(sums.num_inside);
    if (num_inside > most) return std::nullopt;
  }
  const uint64_t wanted = kernels::wanted_mass(whole, top_p);
  if (wanted <= above || wanted > above + weigh_inside(num_inside)) return std::nullopt;
  uint64_t rest = wanted - above;
  narrow_inside(*range, num_inside, rest);
  const Candidate last = find_last(candidates_, rest);
  return Selection{{last.key, last.index}, wanted - rest + last.mass, true, num_inside};
}

// The mass of group g that is kept: what cut_in_bracket found above the bracket and, of what lies
// inside, the part that the cut keeps. `next` walks over the latter, from group to group.
uint64_t Drawer::kept_group_mass(const Selection& kept, int32_t g, size_t& next) const {
  uint64_t mass = group_mass_[g];
  const float lowest = from_key(kept.cut.key);
  const int32_t end = (g + 1) * kGroup;
  for (; next < kept.num_inside && inside_index_[next] < end; ++next) {
    const bool is_kept = inside_z_[next] > lowest ||
                         (inside_z_[next] == lowest && inside_index_[next] <= kept.cut.last_index);
    mass += is_kept ? inside_mass_[next] : 0;
  }
  return mass;
}

uint64_t Drawer::weigh_inside(size_t num_inside) {
  uint64_t sum = 0;
  for (size_t i = 0; i < num_inside; i += kGroup) {
    const auto size = static_cast<int>(std::min<size_t>(kGroup, num_inside - i));
    sum += row_kernels().weigh(&inside_z_[i], size, scale_, INT32_MIN, &inside_mass_[i]);
  }
  return sum;
}

void Drawer::bucket_inside(Bracket range, size_t num_inside) {
  const float width = std::max(range.highest - range.lowest, 1e-30f);
  for (size_t i = 0; i < num_inside; i += kGroup) {
    const auto size = static_cast<int>(std::min<size_t>(kGroup, num_inside - i));
    row_kernels().bucket(&inside_z_[i], size, {range.highest, 1.0f}, kNumBuckets / width,
                         &inside_bucket_[i]);
  }
}

// Leaves as candidates those inside that lie in one narrow part of the bracket, and in `rest` the
// mass that is wanted of them.
void Drawer::narrow_inside(Bracket range, size_t num_inside, uint64_t& rest) {
  bucket_inside(range, num_inside);
  bucket_mass_.assign(kNumBuckets, 0);
  for (size_t i = 0; i < num_inside; ++i) bucket_mass_[inside_bucket_[i]] += inside_mass_[i];
  int32_t bucket = 0;
  for (; rest > bucket_mass_[bucket]; ++bucket) rest -= bucket_mass_[bucket];
  candidates_.clear();
  for (size_t i = 0; i < num_inside; ++i) {
    if (inside_bucket_[i] != bucket) continue;
    candidates_.push_back({key_of(inside_z_[i]), inside_index_[i], inside_mass_[i]});
  }
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
