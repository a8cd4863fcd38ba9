#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "observability/metrics.h"
#include "observability/sample_ring.h"

namespace sluice::observability {
namespace {

TEST(HistogramTest, CountsIntoBucketsWithInclusiveBounds) {
  Histogram histogram({1, 2, 4});
  for (const double value : {0.5, 1.0, 1.5, 4.0, 100.0}) histogram.observe(value);
  const auto snapshot = histogram.snapshot();
  EXPECT_EQ(snapshot.upper_bounds, (std::vector<double>{1, 2, 4}));
  EXPECT_EQ(snapshot.cumulative, (std::vector<int64_t>{2, 3, 4, 5}));
  EXPECT_DOUBLE_EQ(snapshot.sum, 107.0);
}

class Lister final : public Registry::Visitor {
 public:
  void visit(const MetricInfo& info, const Counter& counter) override {
    text += line(info) + std::to_string(counter.value()) + "\n";
  }
  void visit(const MetricInfo& info, const Total& total) override {
    text += line(info) + std::to_string(std::lround(total.value())) + "\n";
  }
  void visit(const MetricInfo& info, const Gauge& gauge) override {
    text += line(info) + std::to_string(std::lround(gauge.value())) + "\n";
  }
  void visit(const MetricInfo& info, const Histogram& histogram) override {
    text += line(info) + std::to_string(histogram.snapshot().cumulative.back()) + "\n";
  }
  std::string text;

 private:
  static std::string line(const MetricInfo& info) {
    std::string labels;
    for (const auto& [name, value] : info.labels) labels += name + "=" + value;
    return info.name + "{" + labels + "} ";
  }
};

TEST(RegistryTest, ListsMetricsInOrderAndFindsThemAgain) {
  Registry registry;
  Counter& steps = registry.counter({"steps", "Steps.", {}});
  Gauge& running = registry.gauge({"running", "Sequences.", {{"model", "a"}}});
  registry.gauge({"running", "Sequences.", {{"model", "b"}}}).set(7);
  registry.histogram({"step_seconds", "Time.", {}}, {0.1}).observe(3);
  steps.add(2);
  running.set(5);
  EXPECT_EQ(&registry.counter({"steps", "Steps.", {}}), &steps);
  EXPECT_EQ(&registry.gauge({"running", "Sequences.", {{"model", "a"}}}), &running);
  Lister lister;
  registry.visit(lister);
  EXPECT_EQ(lister.text, "steps{} 2\nrunning{model=a} 5\nrunning{model=b} 7\nstep_seconds{} 1\n");
}

TEST(RegistryTest, ManyWritersLoseNothing) {
  Registry registry;
  std::vector<std::thread> writers;
  for (int i = 0; i < 4; ++i) {
    writers.emplace_back([&registry] {
      Counter& counter = registry.counter({"events", "", {}});
      Histogram& histogram = registry.histogram({"sizes", "", {}}, {10});
      for (int k = 0; k < 10'000; ++k) {
        counter.add();
        histogram.observe(1);
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(registry.counter({"events", "", {}}).value(), 40'000);
  const auto snapshot = registry.histogram({"sizes", "", {}}, {10}).snapshot();
  EXPECT_EQ(snapshot.cumulative.back(), 40'000);
  EXPECT_DOUBLE_EQ(snapshot.sum, 40'000);
}

TEST(HistogramTest, ManyEqualValuesAreOneObservation) {
  Histogram histogram({1});
  histogram.observe(0.5, 3);
  histogram.observe(2, 2);
  histogram.observe_alone(1);
  EXPECT_EQ(histogram.snapshot().cumulative, (std::vector<int64_t>{4, 6}));
  EXPECT_DOUBLE_EQ(histogram.snapshot().sum, 6.5);
}

TEST(RegistryTest, CollectorsRunBeforeEachVisitUntilTheyEnd) {
  Registry registry;
  int num_calls = 0;
  auto collection = registry.add_collector(
      [&] { registry.total({"late", "Added by a collector.", {}}).set(10 * ++num_calls); });
  for (const char* expected : {"late{} 10\n", "late{} 20\n"}) {
    Lister lister;
    registry.visit(lister);
    EXPECT_EQ(lister.text, expected);
  }
  collection.reset();
  Lister lister;
  registry.visit(lister);
  EXPECT_EQ(lister.text, "late{} 20\n");
  EXPECT_EQ(num_calls, 2);
}

TEST(SampleRingTest, TakesWhatIsNewAndAtMostTheCapacity) {
  SampleRing ring(3);
  EXPECT_TRUE(ring.take().empty());
  ring.add(1);
  ring.add(2);
  EXPECT_EQ(ring.take(), (std::vector<float>{1, 2}));
  EXPECT_TRUE(ring.take().empty());
  for (int i = 3; i <= 9; ++i) ring.add(static_cast<float>(i));
  EXPECT_EQ(ring.take(), (std::vector<float>{7, 8, 9}));
}

TEST(SampleRingTest, ReadsWhileAnotherThreadWrites) {
  SampleRing ring(64);
  std::thread writer([&ring] {
    for (int i = 0; i < 20'000; ++i) ring.add(1);
  });
  size_t num_taken = 0;
  for (int i = 0; i < 100; ++i) {
    for (const float value : ring.take()) EXPECT_EQ(value, 1);
    ++num_taken;
  }
  writer.join();
  EXPECT_EQ(num_taken, 100u);
}

TEST(PercentileTest, NearestRank) {
  std::vector<float> values = {5, 1, 4, 2, 3};
  EXPECT_EQ(percentile(values, 0.5), 3);
  EXPECT_EQ(percentile(values, 0.0), 1);
  EXPECT_EQ(percentile(values, 0.2), 1);
  EXPECT_EQ(percentile(values, 0.21), 2);
  EXPECT_EQ(percentile(values, 1.0), 5);
  EXPECT_EQ(percentile({}, 0.5), 0);
}

}  // namespace
}  // namespace sluice::observability
