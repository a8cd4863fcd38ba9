#include "observability/metrics.h"

#include <algorithm>
#include <cassert>
#include <iterator>

namespace sluice::observability {

Histogram::Histogram(std::vector<double> upper_bounds)
    : upper_bounds_(std::move(upper_bounds)), counts_(upper_bounds_.size() + 1) {
  assert(std::ranges::is_sorted(upper_bounds_, std::ranges::less_equal{}));
}

size_t Histogram::bucket_of(double value) const {
  return static_cast<size_t>(std::ranges::lower_bound(upper_bounds_, value) -
                             upper_bounds_.begin());
}

void Histogram::observe(double value, int64_t count) {
  counts_[bucket_of(value)].fetch_add(count, std::memory_order_relaxed);
  sum_.fetch_add(value * static_cast<double>(count), std::memory_order_relaxed);
}

void Histogram::observe_alone(double value) {
  std::atomic<int64_t>& count = counts_[bucket_of(value)];
  count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  sum_.store(sum_.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

Histogram::Snapshot Histogram::snapshot() const {
  Snapshot snapshot{upper_bounds_, {}, sum_.load(std::memory_order_relaxed)};
  int64_t total = 0;
  for (const auto& count : counts_) {
    total += count.load(std::memory_order_relaxed);
    snapshot.cumulative.push_back(total);
  }
  return snapshot;
}

template <typename Metric, typename... Args>
Metric& Registry::find_or_add(std::deque<Named<Metric>>& metrics, Kind kind, MetricInfo info,
                              Args&&... args) {
  std::lock_guard lock(mutex_);
  const auto known = std::ranges::find_if(metrics, [&](const Named<Metric>& named) {
    return named.info.name == info.name && named.info.labels == info.labels;
  });
  if (known != metrics.end()) return known->metric;
  order_.emplace_back(kind, metrics.size());
  return metrics.emplace_back(std::move(info), std::forward<Args>(args)...).metric;
}

Counter& Registry::counter(MetricInfo info) {
  return find_or_add(counters_, Kind::kCounter, std::move(info));
}

Total& Registry::total(MetricInfo info) {
  return find_or_add(totals_, Kind::kTotal, std::move(info));
}

Gauge& Registry::gauge(MetricInfo info) {
  return find_or_add(gauges_, Kind::kGauge, std::move(info));
}

Histogram& Registry::histogram(MetricInfo info, std::vector<double> upper_bounds) {
  return find_or_add(histograms_, Kind::kHistogram, std::move(info), std::move(upper_bounds));
}

Registry::Collection::~Collection() {
  std::lock_guard lock(registry_.collectors_mutex_);
  registry_.collectors_.erase(place_);
}

std::unique_ptr<Registry::Collection> Registry::add_collector(std::function<void()> collect) {
  std::lock_guard lock(collectors_mutex_);
  collectors_.push_back(std::move(collect));
  return std::make_unique<Collection>(*this, std::prev(collectors_.end()));
}

void Registry::visit(Visitor& visitor) {
  std::lock_guard collectors_lock(collectors_mutex_);
  for (const auto& collect : collectors_) collect();
  visit_uncollected(visitor);
}

void Registry::visit_uncollected(Visitor& visitor) {
  std::lock_guard lock(mutex_);
  for (const auto& [kind, position] : order_) {
    switch (kind) {
      case Kind::kCounter:
        visitor.visit(counters_[position].info, counters_[position].metric);
        break;
      case Kind::kTotal:
        visitor.visit(totals_[position].info, totals_[position].metric);
        break;
      case Kind::kGauge:
        visitor.visit(gauges_[position].info, gauges_[position].metric);
        break;
      case Kind::kHistogram:
        visitor.visit(histograms_[position].info, histograms_[position].metric);
        break;
    }
  }
}

}  // namespace sluice::observability
