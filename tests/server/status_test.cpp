// GET /status: what the service says of itself, and what the registry has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "observability/metrics.h"
#include "tests/server/http_fixture.h"

namespace sluice::server {
namespace {

using ::testing::ElementsAre;

using StatusTest = HttpFixture;

TEST_F(StatusTest, SaysWhatTheServiceHolds) {
  start();
  const RawResponse response = get("/status");
  ASSERT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.at("cache-control"), "no-store");
  const Json json = response.json();
  EXPECT_EQ(json["version"], "1.2.3");
  EXPECT_EQ(json["device"], "fake");
  EXPECT_EQ(json["num_threads"], 3);
  EXPECT_EQ(json["uptime_seconds"], 1.5);
  EXPECT_EQ(json["running"], 4);
  EXPECT_EQ(json["waiting"], 5);
  EXPECT_EQ(json["kv_blocks_used"], 6);
  EXPECT_EQ(json["kv_blocks_total"], 7);
  EXPECT_EQ(json["prefix_cache_queries"], 8);
  EXPECT_EQ(json["prefix_cache_hits"], 9);
  EXPECT_EQ(json["preemptions"], 10);
  EXPECT_EQ(json["live"], true);
  EXPECT_EQ(json["ready"], true);
  ASSERT_EQ(json["models"].size(), 1u);
  EXPECT_EQ(json["models"][0]["name"], "tiny");
  EXPECT_EQ(json["models"][0]["profile"], "test/1");
  // Nothing was counted yet.
  EXPECT_EQ(json["generated_tokens"], 0);
  EXPECT_TRUE(json["time_to_first_token_seconds"].is_null());
  EXPECT_TRUE(json["step_sequences"].is_null());
  EXPECT_TRUE(json["finished"].empty());
  service_.set_health({.live = true, .ready = false});
  EXPECT_EQ(get("/status").json()["ready"], false);
}

TEST_F(StatusTest, SumsTheModelsUp) {
  start();
  observability::Registry& registry = service_.metrics();
  for (const char* model : {"a", "b"}) {
    registry.counter({"sluice_generated_tokens_total", "", {{"model", model}}}).add(10);
    registry.counter({"sluice_requests_finished_total", "", {{"model", model}, {"reason", "stop"}}})
        .add(2);
    auto& histogram = registry.histogram(
        {"sluice_time_to_first_token_seconds", "", {{"model", model}}}, {0.5, 1});
    histogram.observe(0.25, 3);
    histogram.observe(2);
  }
  registry.counter({"sluice_requests_refused_total", "", {{"code", "UNAVAILABLE"}}}).add(7);
  registry.counter({"sluice_requests_refused_total", "", {{"code", "NOT_FOUND"}}});
  registry.counter({"another_total", "", {}}).add(1);
  const Json json = get("/status").json();
  EXPECT_EQ(json["generated_tokens"], 20);
  EXPECT_EQ(json["prompt_tokens"], 0);
  EXPECT_EQ(json["finished"], (Json{{"stop", 4}}));
  EXPECT_EQ(json["refused"], (Json{{"UNAVAILABLE", 7}}));
  const Json& histogram = json["time_to_first_token_seconds"];
  EXPECT_THAT(histogram["upper_bounds"].get<std::vector<double>>(), ElementsAre(0.5, 1.0));
  EXPECT_THAT(histogram["cumulative"].get<std::vector<int64_t>>(), ElementsAre(6, 6, 8));
  EXPECT_EQ(histogram["sum"], 5.5);
}

TEST_F(StatusTest, CallsNoCollector) {
  start();
  int num_calls = 0;
  const auto collection = service_.metrics().add_collector([&] { ++num_calls; });
  EXPECT_EQ(get("/status").status, 200);
  EXPECT_EQ(num_calls, 0);
}

TEST_F(StatusTest, AsksForAKey) {
  start_with_keys();
  EXPECT_EQ(get("/status").status, 401);
  EXPECT_EQ(get("/status", "Authorization: Bearer wrong\r\n").status, 401);
  EXPECT_EQ(get("/status", "Authorization: Bearer open-sesame\r\n").status, 200);
}

}  // namespace
}  // namespace sluice::server
