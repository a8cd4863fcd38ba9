#include <algorithm>
#include <array>
#include <cmath>

#include "sampling/draw.h"

// Where in a row a cut should be looked for: guesses, from the row's largest elements and a sample
// of the others. A wrong one costs time only.
namespace sluice::sampling {
namespace {

// Distances from the maximum, after temperature, that the histogram spreads over its buckets;
// weights beyond are zero.
constexpr float kMaxDistance = 32.0f;

// Groups of which a sample of a row has elements.
constexpr int32_t kSampledGroups = 512;

}  // namespace

// Logits between which the cut should fall. Nullopt if that cannot be told.
std::optional<Bracket> Drawer::bracket(const Row& row, float top_p) {
  constexpr double kWideMargin = 0.015;
  constexpr double kWidestMargin = 0.03;
  constexpr double kHopelessMargin = 0.06;
  constexpr int kFewElements = 16;
  constexpr int kManyElements = 64;
  if (row.num_groups() < kSampledGroups) return std::nullopt;
  set_buckets(row);
  Estimate estimate;
  weigh_heavy_groups(row, estimate);
  const double p = static_cast<double>(top_p);
  draw_sample(row, kFewElements, estimate);
  double margin = margin_of(estimate, p);
  if (margin > kWideMargin && margin < kHopelessMargin) {
    draw_sample(row, kManyElements, estimate);
    margin = margin_of(estimate, p);
  }
  if (!(margin <= kWidestMargin)) return bracket_of_few(row, p, estimate);
  return Bracket{logit_at(row, bucket_of_share(estimate, p + margin) + 1),
                 logit_at(row, bucket_of_share(estimate, p - margin))};
}

// Groups of which the largest element alone is a good part of the row are weighed whole: a sample
// would miss them or make too much of them.
void Drawer::weigh_heavy_groups(const Row& row, Estimate& estimate) {
  constexpr uint64_t kMostHeavyGroups = 64;
  heavy_mass_ = weigh_group_maxima(row) / kMostHeavyGroups;
  known_mass_.assign(kNumBuckets, 0);
  std::array<uint64_t, kGroup> mass;
  std::array<int32_t, kGroup> bucket;
  estimate.num_sampled_from = row.size();
  for (int32_t g = 0; g < row.num_groups(); ++g) {
    if (group_max_mass_[g] < heavy_mass_) continue;
    const auto part = row.group(g);
    const auto size = static_cast<int>(part.size());
    estimate.num_sampled_from -= size;
    estimate.known +=
        static_cast<double>(row_kernels().weigh(part.data(), size, scale_, INT32_MIN, mass.data()));
    row_kernels().bucket(part.data(), size, scale_, buckets_per_unit_, bucket.data());
    for (int i = 0; i < size; ++i) known_mass_[bucket[i]] += mass[i];
  }
}

// Of each of evenly spaced groups the first `num_elements`, at most kGroup.
void Drawer::draw_sample(const Row& row, int num_elements, Estimate& estimate) {
  bucket_mass_.assign(kNumBuckets, 0);
  std::array<uint64_t, kGroup> mass;
  std::array<int32_t, kGroup> bucket;
  double sum = 0;
  int32_t count = 0;
  estimate.squares = 0;
  for (int32_t g = 0; g < row.num_groups(); g += row.num_groups() / kSampledGroups) {
    if (group_max_mass_[g] >= heavy_mass_) continue;
    const auto part = row.group(g);
    const int size = std::min(num_elements, static_cast<int>(part.size()));
    count += size;
    sum +=
        static_cast<double>(row_kernels().weigh(part.data(), size, scale_, INT32_MIN, mass.data()));
    row_kernels().bucket(part.data(), size, scale_, buckets_per_unit_, bucket.data());
    for (int i = 0; i < size; ++i) {
      bucket_mass_[bucket[i]] += mass[i];
      estimate.squares += static_cast<double>(mass[i]) * static_cast<double>(mass[i]);
    }
  }
  estimate.enlargement = estimate.num_sampled_from / static_cast<double>(std::max(count, 1));
  estimate.sampled = estimate.enlargement * sum;
}

// By how much the estimated share of the mass above the bucket that holds share p may be off.
double Drawer::margin_of(const Estimate& estimate, double p) const {
  constexpr double kDeviations = 2.5;
  const int32_t end = bucket_of_share(estimate, p);
  double above = 0;
  for (int32_t b = 0; b <= end; ++b) above += static_cast<double>(bucket_mass_[b]);
  above = std::min(1.0, above * estimate.enlargement / std::max(estimate.sampled, 1.0));
  const double squares = estimate.squares * ((1 - p) * (1 - p) * above + p * p * (1 - above));
  return kDeviations * estimate.enlargement * std::sqrt(squares) / estimate.mass();
}

// The bucket at whose far end the share of the mass is reached.
int32_t Drawer::bucket_of_share(const Estimate& estimate, double share) const {
  const double wanted = share * estimate.mass();
  int32_t b = 0;
  for (double sum = 0; b < kNumBuckets - 1; ++b) {
    sum += static_cast<double>(known_mass_[b]) +
           estimate.enlargement * static_cast<double>(bucket_mass_[b]);
    if (sum >= wanted) break;
  }
  return b;
}

// For a row of which a sample says little: what lies below the bracket is small and even, and the
// sample tells its mass; of what lies above, the maxima of the light groups give a lower bound.
std::optional<Bracket> Drawer::bracket_of_few(const Row& row, double p, const Estimate& estimate) {
  constexpr double kCaution = 1.5;
  std::array<int32_t, kGroup> bucket;
  double top = estimate.known;
  for (int32_t g = 0; g < row.num_groups(); g += kGroup) {
    const int32_t count = std::min(kGroup, row.num_groups() - g);
    row_kernels().bucket(&group_max_[g], count, scale_, buckets_per_unit_, bucket.data());
    for (int32_t i = 0; i < count; ++i) {
      if (group_max_mass_[g + i] >= heavy_mass_) continue;
      known_mass_[bucket[i]] += group_max_mass_[g + i];
      top += static_cast<double>(group_max_mass_[g + i]);
    }
  }
  const double enlargement = kCaution * estimate.enlargement;
  double below = 0;
  int32_t b = kNumBuckets - 1;
  for (; b > 0; --b) {
    const auto known = static_cast<double>(known_mass_[b]);
    const double next_below = below + known + enlargement * static_cast<double>(bucket_mass_[b]);
    top -= known;
    if (next_below > (1 - p) * (next_below + top)) break;
    below = next_below;
  }
  if (b == kNumBuckets - 1) return std::nullopt;
  return Bracket{logit_at(row, b + 1), row.max()};
}

void Drawer::set_buckets(const Row& row) {
  const float distance = (row.max() - row.min()) * scale_.inverse_temperature;
  buckets_per_unit_ = kNumBuckets / std::clamp(distance, 1e-30f, kMaxDistance);
}

// The logit at the near end of a bucket.
float Drawer::logit_at(const Row& row, int32_t bucket) const {
  return row.max() - static_cast<float>(bucket) / buckets_per_unit_ / scale_.inverse_temperature;
}

// Logits between which the element of this rank should be: below the smallest of so many groups'
// maxima, or where a sample of the row sees it.
std::optional<Bracket> Drawer::bracket_of_rank(Row& row, int32_t rank) {
  constexpr int kElements = 16;
  constexpr double kDeviations = 3;
  if (rank <= row.num_groups() / 2) return Bracket{from_key(row.key_reached_by(rank)), row.max()};
  if (row.num_groups() < kSampledGroups) return std::nullopt;
  set_buckets(row);
  bucket_count_.assign(kNumBuckets, 0);
  std::array<int32_t, kGroup> bucket;
  double count = 0;
  for (int32_t g = 0; g < row.num_groups(); g += row.num_groups() / kSampledGroups) {
    const auto part = row.group(g);
    const int size = std::min(kElements, static_cast<int>(part.size()));
    row_kernels().bucket(part.data(), size, scale_, buckets_per_unit_, bucket.data());
    for (int i = 0; i < size; ++i) ++bucket_count_[bucket[i]];
    count += size;
  }
  const double share = static_cast<double>(rank) / row.size();
  const double margin = kDeviations * std::sqrt(share * (1 - share) / count);
  const auto place = [&](double wanted) {
    int32_t b = 0;
    for (double sum = 0; b < kNumBuckets - 1; ++b) {
      sum += bucket_count_[b];
      if (sum >= wanted * count) break;
    }
    return b;
  };
  const int32_t end = place(share + margin);
  if (end == kNumBuckets - 1) return std::nullopt;
  return Bracket{logit_at(row, end + 1), logit_at(row, place(share - margin))};
}

}  // namespace sluice::sampling
