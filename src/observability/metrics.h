#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
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

// A number that only grows and is counted elsewhere: seconds of CPU time, or what the scheduler
// keeps. Threads: any.
class Total final {
 public:
  // Requires: value >= the one before.
  void set(double value) { value_.store(value, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
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

  // `count` observations of the same value cost as much as one.
  void observe(double value, int64_t count = 1);
  // The same for a histogram that one thread alone writes, at half the price.
  void observe_alone(double value);
  Snapshot snapshot() const;

 private:
  size_t bucket_of(double value) const;

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
 private:
  using Collectors = std::list<std::function<void()>>;

 public:
  // Ends a collector's calls when it dies, and waits for one under way.
  class Collection final {
   public:
    Collection(Registry& registry, Collectors::iterator place)
        : registry_(registry), place_(place) {}
    ~Collection();
    Collection(const Collection&) = delete;
    Collection& operator=(const Collection&) = delete;

   private:
    Registry& registry_;
    const Collectors::iterator place_;
  };

  // A visitor over all metrics, in the order in which they were added.
  class Visitor {
   public:
    virtual ~Visitor() = default;
    virtual void visit(const MetricInfo& info, const Counter& counter) = 0;
    virtual void visit(const MetricInfo& info, const Total& total) = 0;
    virtual void visit(const MetricInfo& info, const Gauge& gauge) = 0;
    virtual void visit(const MetricInfo& info, const Histogram& histogram) = 0;
  };

  // The metric of this name and these labels, made if it is new. The reference stays valid as long
  // as the registry. Requires: one name is used for one kind of metric only.
  Counter& counter(MetricInfo info);
  Total& total(MetricInfo info);
  Gauge& gauge(MetricInfo info);
  Histogram& histogram(MetricInfo info, std::vector<double> upper_bounds);

  // Calls `collect` at the start of every visit(), one at a time, to bring values up to date that
  // nobody writes meanwhile: ages, sizes of queues, figures of the process. It may add metrics.
  // The registry must outlive what is returned.
  [[nodiscard]] std::unique_ptr<Collection> add_collector(std::function<void()> collect);

  void visit(Visitor& visitor);
  // Without the collectors: what only they bring up to date is as old as the last visit(), and
  // nothing is asked of the system.
  void visit_uncollected(Visitor& visitor);

 private:
  template <typename Metric>
  struct Named {
    template <typename... Args>
    explicit Named(MetricInfo i, Args&&... args)
        : info(std::move(i)), metric(std::forward<Args>(args)...) {}
    MetricInfo info;
    Metric metric;
  };
  enum class Kind : uint8_t { kCounter, kTotal, kGauge, kHistogram };

  template <typename Metric, typename... Args>
  Metric& find_or_add(std::deque<Named<Metric>>& metrics, Kind kind, MetricInfo info,
                      Args&&... args);

  std::mutex collectors_mutex_;  // taken before mutex_
  Collectors collectors_;        // guarded by collectors_mutex_
  std::mutex mutex_;
  std::deque<Named<Counter>> counters_;  // deques: elements never move
  std::deque<Named<Total>> totals_;
  std::deque<Named<Gauge>> gauges_;
  std::deque<Named<Histogram>> histograms_;
  std::vector<std::pair<Kind, size_t>> order_;
};

}  // namespace sluice::observability
