#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace sluice::observability {

// A number that only grows. Threads: any; one relaxed atomic addition.
class Counter final {
 public:
  // Requires: amount >= 0.
  void add(int64_t amount = 1) { value_.fetch_add(amount, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// A number that goes up and down. Threads: any.
class Gauge final {
 public:
  void set(double value) { value_.store(value, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

// How often values fell into fixed buckets. Threads: any; a reader may see an observation in the
// count and not yet in the sum.
class Histogram final {
 public:
  struct Snapshot {
    std::vector<double> upper_bounds;  // ascending; the last bucket has none
    std::vector<int64_t> cumulative;   // [upper_bounds + 1], values <= the bound; last: all
    double sum = 0;
  };

  // Requires: upper_bounds ascending and unique.
  explicit Histogram(std::vector<double> upper_bounds);

  void observe(double value);
  Snapshot snapshot() const;

 private:
  std::vector<double> upper_bounds_;
  std::vector<std::atomic<int64_t>> counts_;  // [upper_bounds + 1]
  std::atomic<double> sum_{0};
};

using Labels = std::vector<std::pair<std::string, std::string>>;

// What one metric is called; `labels` tell members of one family (same name) apart.
struct MetricInfo {
  std::string name;  // as Prometheus spells it: sluice_steps_total
  std::string help;
  Labels labels;
};

// Owns the metrics of a process, so that a page can list them.
//
// Threads: any. A lock is taken to add a metric and to list, never to write one.
class Registry final {
 public:
  // A visitor over all metrics, in the order in which they were added.
  class Visitor {
   public:
    virtual ~Visitor() = default;
    virtual void visit(const MetricInfo& info, const Counter& counter) = 0;
    virtual void visit(const MetricInfo& info, const Gauge& gauge) = 0;
    virtual void visit(const MetricInfo& info, const Histogram& histogram) = 0;
  };

  // The metric of this name and these labels, made if it is new. The reference stays valid as long
  // as the registry. Requires: one name is used for one kind of metric only.
  Counter& counter(MetricInfo info);
  Gauge& gauge(MetricInfo info);
  Histogram& histogram(MetricInfo info, std::vector<double> upper_bounds);

  void visit(Visitor& visitor) const;

 private:
  template <typename Metric>
  struct Named {
    template <typename... Args>
    explicit Named(MetricInfo i, Args&&... args)
        : info(std::move(i)), metric(std::forward<Args>(args)...) {}
    MetricInfo info;
    Metric metric;
  };
  enum class Kind : uint8_t { kCounter, kGauge, kHistogram };

  template <typename Metric, typename... Args>
  Metric& find_or_add(std::deque<Named<Metric>>& metrics, Kind kind, MetricInfo info,
                      Args&&... args);

  mutable std::mutex mutex_;
  std::deque<Named<Counter>> counters_;  // deques: elements never move
  std::deque<Named<Gauge>> gauges_;
  std::deque<Named<Histogram>> histograms_;
  std::vector<std::pair<Kind, size_t>> order_;
};

}  // namespace sluice::observability
