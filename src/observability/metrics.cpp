#include "observability/metrics.h"

#include <algorithm>
#include <cassert>

namespace sluice::observability {

Histogram::Histogram(std::vector<double> upper_bounds)
    : upper_bounds_(std::move(upper_bounds)), counts_(upper_bounds_.size() + 1) {
  assert(std::ranges::is_sorted(upper_bounds_, std::ranges::less_equal{}));
}

void Histogram::observe(double value) {
  const auto bucket = std::ranges::lower_bound(upper_bounds_, value) - upper_bounds_.begin();
  counts_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
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

Gauge& Registry::gauge(MetricInfo info) {
  return find_or_add(gauges_, Kind::kGauge, std::move(info));
}

Histogram& Registry::histogram(MetricInfo info, std::vector<double> upper_bounds) {
  return find_or_add(histograms_, Kind::kHistogram, std::move(info), std::move(upper_bounds));
}

void Registry::visit(Visitor& visitor) const {
  std::lock_guard lock(mutex_);
  for (const auto& [kind, position] : order_) {
    switch (kind) {
      case Kind::kCounter:
        visitor.visit(counters_[position].info, counters_[position].metric);
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
