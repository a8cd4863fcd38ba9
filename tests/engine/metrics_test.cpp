// What the engine reports of itself, on a scripted model and a clock that the tests set.
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "observability/metrics.h"
#include "tests/engine/fakes.h"

namespace sluice::engine {
namespace {

using observability::Counter;
using observability::Gauge;
using observability::Histogram;
using std::chrono::milliseconds;

// All of a registry's values by "name{label=value,...}"; a histogram's are its count and its sum.
class Reader final : public observability::Registry::Visitor {
 public:
  explicit Reader(observability::Registry& registry) { registry.visit(*this); }

  void visit(const observability::MetricInfo& info, const Counter& counter) override {
    values_[key(info)] = static_cast<double>(counter.value());
  }
  void visit(const observability::MetricInfo& info, const observability::Total& total) override {
    values_[key(info)] = total.value();
  }
  void visit(const observability::MetricInfo& info, const Gauge& gauge) override {
    values_[key(info)] = gauge.value();
  }
  void visit(const observability::MetricInfo& info, const Histogram& histogram) override {
    const auto snapshot = histogram.snapshot();
    values_[key(info) + ".count"] = static_cast<double>(snapshot.cumulative.back());
    values_[key(info) + ".sum"] = snapshot.sum;
  }

  bool has(const std::string& name) const { return values_.contains(name); }
  double value(const std::string& name) const {
    const auto place = values_.find(name);
    EXPECT_NE(place, values_.end()) << "there is no " << name;
    return place == values_.end() ? -1 : place->second;
  }

 private:
  static std::string key(const observability::MetricInfo& info) {
    std::string labels;
    for (const auto& [name, value] : info.labels) {
      labels += (labels.empty() ? "" : ",") + name + "=" + value;
    }
    return labels.empty() ? info.name : info.name + "{" + labels + "}";
  }
  std::map<std::string, double> values_;
};

const std::string kModel = "{model=letters}";

TEST(EngineMetricsTest, TimesOfARequestComeFromItsOwnSteps) {
  FakeService fake;
  fake.start(request_of({1, 2, 3}, 4));
  fake.clock.advance(milliseconds(50));  // in the queue
  fake.script->computes = [&](const StepInput&) { fake.clock.advance(milliseconds(20)); };
  fake.run_until_idle();
  const Reader read(fake.service->metrics());
  EXPECT_EQ(read.value("sluice_prompt_tokens_total" + kModel), 3);
  EXPECT_EQ(read.value("sluice_generated_tokens_total" + kModel), 4);
  EXPECT_EQ(read.value("sluice_requests_finished_total{model=letters,reason=length}"), 1);
  EXPECT_EQ(read.value("sluice_requests_finished_total{model=letters,reason=error}"), 0);
  EXPECT_NEAR(read.value("sluice_request_queue_seconds" + kModel + ".sum"), 0.05, 1e-9);
  EXPECT_NEAR(read.value("sluice_time_to_first_token_seconds" + kModel + ".sum"), 0.07, 1e-9);
  EXPECT_EQ(read.value("sluice_time_to_first_token_seconds" + kModel + ".count"), 1);
  EXPECT_EQ(read.value("sluice_inter_token_latency_seconds" + kModel + ".count"), 3);
  EXPECT_NEAR(read.value("sluice_inter_token_latency_seconds" + kModel + ".sum"), 0.06, 1e-9);
  EXPECT_NEAR(read.value("sluice_request_duration_seconds" + kModel + ".sum"), 0.13, 1e-9);
  EXPECT_EQ(read.value("sluice_step_duration_seconds" + kModel + ".count"), 4);
  EXPECT_NEAR(read.value("sluice_step_duration_seconds" + kModel + ".sum"), 0.08, 1e-9);
  EXPECT_EQ(read.value("sluice_step_tokens" + kModel + ".sum"), 6);
  EXPECT_EQ(read.value("sluice_step_sequences" + kModel + ".sum"), 4);
}

TEST(EngineMetricsTest, TokensOfOneStepAreAllCounted) {
  FakeService fake;
  for (int i = 0; i < 5; ++i) fake.start(request_of({1, 2, i}, 6 + i % 2));
  fake.run_until_idle();
  const Reader read(fake.service->metrics());
  EXPECT_EQ(read.value("sluice_generated_tokens_total" + kModel), 32);
  EXPECT_EQ(read.value("sluice_inter_token_latency_seconds" + kModel + ".count"), 27);
  EXPECT_EQ(read.value("sluice_time_to_first_token_seconds" + kModel + ".count"), 5);
  EXPECT_EQ(read.value("sluice_request_duration_seconds" + kModel + ".count"), 5);
}

TEST(EngineMetricsTest, GaugesFollowTheQueueAndTheCache) {
  FakeServiceOptions options;
  options.max_num_seqs = 2;
  FakeService fake(options);
  fake.start(request_of({1, 2, 3}, 20));
  fake.start(request_of({1, 2, 3}, 20));
  fake.start(request_of({1, 2, 3}, 20));
  {
    const Reader read(fake.service->metrics());
    EXPECT_EQ(read.value("sluice_sequences_waiting" + kModel), 3);
    EXPECT_EQ(read.value("sluice_sequences_running" + kModel), 0);
    EXPECT_EQ(read.value("sluice_kv_cache_blocks" + kModel), 64);
    EXPECT_EQ(read.value("sluice_ready"), 0);  // start() was not called
    EXPECT_EQ(read.value("sluice_live"), 1);
    EXPECT_FALSE(read.has("sluice_prefix_cache_query_tokens_total" + kModel));
  }
  fake.service->tick();
  fake.clock.advance(milliseconds(500));
  {
    const Reader read(fake.service->metrics());
    EXPECT_EQ(read.value("sluice_sequences_waiting" + kModel), 1);
    EXPECT_EQ(read.value("sluice_sequences_running" + kModel), 2);
    EXPECT_EQ(read.value("sluice_kv_cache_blocks_used" + kModel), 2);
    EXPECT_EQ(read.value("sluice_kv_cache_usage_ratio" + kModel), 2.0 / 64);
    EXPECT_EQ(read.value("sluice_prefix_cache_query_tokens_total" + kModel), 6);
    EXPECT_EQ(read.value("vllm:num_requests_waiting"), 1);
    EXPECT_EQ(read.value("vllm:num_requests_running"), 2);
    EXPECT_EQ(read.value("vllm:kv_cache_usage_perc"), 2.0 / 64);
    EXPECT_EQ(read.value("sluice_engine_tick_age_seconds"), 0.5);
    EXPECT_EQ(read.value("sluice_engine_step_age_seconds"), 0.5);
  }
  fake.clock.advance(std::chrono::minutes(2));
  EXPECT_EQ(Reader(fake.service->metrics()).value("sluice_live"), 0);
  fake.run_until_idle();
  const Reader read(fake.service->metrics());
  EXPECT_EQ(read.value("sluice_sequences_running" + kModel), 0);
  EXPECT_EQ(read.value("sluice_sequences_waiting" + kModel), 0);
}

TEST(EngineMetricsTest, PreemptionsAreCountedOnce) {
  FakeServiceOptions options;
  options.num_blocks = 6;
  FakeService fake(options);
  for (int i = 0; i < 3; ++i) fake.start(request_of({1, 2, i}, 12));
  fake.run_until_idle();
  const auto expected = static_cast<double>(fake.service->num_preemptions());
  EXPECT_GE(expected, 1);
  for (int i = 0; i < 2; ++i) {
    const Reader read(fake.service->metrics());
    EXPECT_EQ(read.value("sluice_preemptions_total" + kModel), expected);
  }
}

TEST(EngineMetricsTest, RefusalsAndEndsHaveTheirReason) {
  FakeServiceOptions options;
  options.max_num_seqs = 1;
  options.limits.max_queued_requests = 1;
  FakeService fake(options);
  const auto refused = [&](GenerateRequest request) {
    EXPECT_FALSE(fake.service->generate(std::move(request), std::make_shared<Recorder>()));
  };
  refused(request_of({}, 4));
  refused(request_of({99}, 4));
  GenerateRequest unknown = request_of({1}, 4);
  unknown.model = "other";
  refused(std::move(unknown));
  fake.start(request_of({1}, 4));
  fake.start(request_of({1}, 4));
  fake.call->cancel();
  refused(request_of({1}, 4));
  fake.script->fault = [](int32_t, uint32_t) { return sampling::RowFault::kNotFinite; };
  fake.run_until_idle();
  const Reader read(fake.service->metrics());
  EXPECT_EQ(read.value("sluice_requests_refused_total{code=INVALID_ARGUMENT}"), 2);
  EXPECT_EQ(read.value("sluice_requests_refused_total{code=NOT_FOUND}"), 1);
  EXPECT_EQ(read.value("sluice_requests_refused_total{code=RESOURCE_EXHAUSTED}"), 1);
  EXPECT_EQ(read.value("sluice_requests_refused_total{code=UNAVAILABLE}"), 0);
  EXPECT_EQ(read.value("sluice_requests_finished_total{model=letters,reason=cancelled}"), 1);
  EXPECT_EQ(read.value("sluice_requests_finished_total{model=letters,reason=error}"), 1);
  EXPECT_EQ(read.value("sluice_request_duration_seconds{model=letters}.count"), 2);
  EXPECT_EQ(read.value("sluice_request_queue_seconds{model=letters}.count"), 1);
  EXPECT_EQ(read.value("sluice_prompt_tokens_total{model=letters}"), 2);
  EXPECT_EQ(read.value("sluice_sequences_waiting{model=letters}"), 0);
}

TEST(EngineMetricsTest, ARegistryOutlivesItsService) {
  auto fake = std::make_unique<FakeService>();
  auto registry = std::make_shared<observability::Registry>();
  ServiceParts parts;
  parts.metrics = registry;
  {
    const EngineService service(std::move(parts), fake->clock);
    EXPECT_EQ(Reader(*registry).value("sluice_live"), 1);
  }
  EXPECT_EQ(Reader(*registry).value("vllm:num_requests_running"), 0);
}

}  // namespace
}  // namespace sluice::engine
