// The load of `bench serve`: its plan, its figures, its picture.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "cli/load_plan.h"
#include "cli/load_plot.h"
#include "cli/load_report.h"
#include "cli/load_run.h"

namespace sluice::cli {
namespace {

using ::testing::AllOf;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Mix, ReadsLengthsAndWeights) {
  const auto mix = parse_mix("128/50*3,1024/200");
  ASSERT_TRUE(mix);
  ASSERT_EQ(mix->size(), 2u);
  EXPECT_EQ((*mix)[0].prompt_tokens, 128);
  EXPECT_EQ((*mix)[0].output_tokens, 50);
  EXPECT_EQ((*mix)[0].weight, 3);
  EXPECT_EQ((*mix)[1].prompt_tokens, 1024);
  EXPECT_EQ((*mix)[1].weight, 1);
  for (const char* text : {"", "8", "8/", "/8", "0/8", "8/0", "8/8*", "8/8*0", "8/8*-1", "8/8*nan",
                           "8/8,", "8/8*inf", "99999999/1"}) {
    EXPECT_FALSE(parse_mix(text)) << text;
  }
}

LoadOptions open_loop(double rate) {
  LoadOptions options;
  options.rate = rate;
  return options;
}

TEST(LoadPlan, IsTheSameForTheSameSeed) {
  LoadPlan a(open_loop(10), "m", 100);
  LoadPlan b(open_loop(10), "m", 100);
  for (int i = 0; i < 50; ++i) {
    const auto x = a.next();
    const auto y = b.next();
    EXPECT_EQ(x.at_s, y.at_s);
    EXPECT_EQ(x.request.token_ids, y.request.token_ids);
    EXPECT_EQ(x.request.model, "m");
  }
}

// 10,000 gaps of an exponential law: mean within 5 standard errors (1 % each), variation likewise.
TEST(LoadPlan, ArrivesAsAPoissonProcess) {
  LoadPlan plan(open_loop(20), "m", 100);
  constexpr int kCount = 10'000;
  double last = 0, sum = 0, squares = 0;
  for (int i = 0; i < kCount; ++i) {
    const double at = plan.next().at_s;
    sum += at - last;
    squares += (at - last) * (at - last);
    last = at;
  }
  const double mean = sum / kCount;
  EXPECT_THAT(mean, DoubleNear(0.05, 0.0025));
  EXPECT_THAT(std::sqrt(squares / kCount - mean * mean) / mean, DoubleNear(1, 0.07));
}

TEST(LoadPlan, BurstsArriveTogetherAtTheSameRate) {
  LoadOptions options = open_loop(20);
  options.burst = 5;
  LoadPlan plan(options, "m", 100);
  constexpr int kBursts = 4'000;
  double last = -1;
  for (int i = 0; i < kBursts; ++i) {
    const double at = plan.next().at_s;
    EXPECT_GT(at, last);
    for (int k = 1; k < options.burst; ++k) EXPECT_EQ(plan.next().at_s, at);
    last = at;
  }
  EXPECT_THAT(last / kBursts, DoubleNear(0.25, 0.02));
}

TEST(LoadPlan, DrawsLengthsByWeight) {
  LoadOptions options = open_loop(1);
  options.mix = *parse_mix("8/2*3,16/4");
  LoadPlan plan(options, "m", 100);
  int num_long = 0;
  constexpr int kCount = 4'000;
  for (int i = 0; i < kCount; ++i) {
    const auto arrival = plan.next();
    const bool is_long = arrival.request.token_ids->size() == 16;
    EXPECT_EQ(arrival.output_tokens, is_long ? 4 : 2);
    EXPECT_EQ(arrival.request.max_tokens, arrival.output_tokens);
    num_long += is_long ? 1 : 0;
  }
  EXPECT_NEAR(num_long, kCount / 4, 140);  // five standard deviations
}

// Answers at once, on a thread of its own; every third request fails, every sixth for want of room.
class FakeClient final : public server::StreamClient {
 public:
  void generate(const GenerateRequest& request,
                std::shared_ptr<server::StreamListener> listener) override {
    const int64_t num_tokens = *request.max_tokens;
    const int number = ++num_requests_;
    threads_.emplace_back([listener = std::move(listener), num_tokens, number] {
      if (number % 6 == 0) return listener->on_end(fail(ErrorCode::kResourceExhausted, "full"));
      if (number % 3 == 0) return listener->on_end(fail(ErrorCode::kUnavailable, "draining"));
      listener->on_tokens(1);
      listener->on_tokens(static_cast<int32_t>(num_tokens) - 1);
      listener->on_end(num_tokens);
    });
  }

 private:
  int num_requests_ = 0;
  std::vector<std::jthread> threads_;
};

TEST(LoadRun, ClosedLoopKeepsItsRequestsUnderWayAndCountsWhatFails) {
  LoadOptions options;
  options.concurrency = 4;
  options.duration = std::chrono::milliseconds(100);
  options.mix = *parse_mix("3/5");
  FakeClient client;
  LoadPlan plan(options, "m", 100);
  const LoadResult result = run_load(client, options, plan, true);
  ASSERT_GE(result.samples.size(), 4u);
  const LoadFigures figures = load_figures(result, {});
  EXPECT_EQ(figures.num_failed, std::ssize(result.samples) / 3);
  EXPECT_EQ(figures.num_succeeded + figures.num_failed, std::ssize(result.samples));
  EXPECT_EQ(figures.num_refused, std::ssize(result.samples) / 6);
  EXPECT_EQ(std::ssize(figures.refusal_ms), figures.num_refused);
  EXPECT_EQ(figures.first_error, "draining");
}

// A stream that ends for want of room after its first token was not refused.
TEST(LoadRun, WhatEndsAfterItsFirstTokenWasNotRefused) {
  class LateFailure final : public server::StreamClient {
   public:
    void generate(const GenerateRequest&,
                  std::shared_ptr<server::StreamListener> listener) override {
      listener->on_tokens(1);
      listener->on_end(fail(ErrorCode::kResourceExhausted, "full"));
    }
  } client;
  LoadOptions options = open_loop(1000);
  options.duration = std::chrono::milliseconds(20);
  LoadPlan plan(options, "m", 100);
  const LoadFigures figures = load_figures(run_load(client, options, plan, true), {});
  EXPECT_GT(figures.num_failed, 0);
  EXPECT_EQ(figures.num_refused, 0);
}

// What waits for this program, or for the server's answer to it, is late all the same.
TEST(LoadRun, TimesCountFromWhenARequestIsDue) {
  class SlowClient final : public server::StreamClient {
   public:
    void generate(const GenerateRequest&,
                  std::shared_ptr<server::StreamListener> listener) override {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      listener->on_tokens(1);
      listener->on_end(50);
    }
  } client;
  LoadOptions options = open_loop(1000);
  options.duration = std::chrono::milliseconds(100);
  LoadPlan plan(options, "m", 100);
  LoadPlan same(options, "m", 100);
  const LoadResult result = run_load(client, options, plan, true);
  ASSERT_GE(result.samples.size(), 20u);
  for (const LoadSample& sample : result.samples) EXPECT_EQ(sample.begin_s, same.next().at_s);
  EXPECT_GT(load_figures(result, {}).ttft_ms.back(), 100);
  EXPECT_EQ(result.arrival_seconds, 0.1);
}

TEST(LoadPlan, PromptsMayBeTextOrChats) {
  LoadOptions options = open_loop(1);
  options.mix = *parse_mix("5/2");
  options.has_text_prompts = true;
  const GenerateRequest text = LoadPlan(options, "m", 100).next().request;
  EXPECT_FALSE(text.token_ids || text.chat);
  EXPECT_EQ(std::ranges::count(*text.prompt, ' '), 4);
  EXPECT_TRUE(text.ignore_eos);
  options.is_chat = options.ends_naturally = true;
  const GenerateRequest chat = LoadPlan(options, "m", 100).next().request;
  EXPECT_FALSE(chat.token_ids || chat.prompt || chat.ignore_eos);
  const auto messages = nlohmann::json::parse(chat.chat->messages);
  EXPECT_EQ(messages[0]["content"], *text.prompt);
}

LoadResult two_requests() {
  LoadResult result;
  result.seconds = 2;
  result.num_dropped = 1;
  LoadSample& first = result.samples.emplace_back();
  first.begin_s = 0.5;
  first.end_s = 1;
  first.messages = {{0.75F, 1}, {0.875F, 2}, {1.0F, 2}};
  first.num_tokens = 5;
  first.succeeded = true;
  LoadSample& second = result.samples.emplace_back();
  second.begin_s = 1;
  second.end_s = 1.5;
  second.error = "too few";
  return result;
}

// With two more, refused after 125 and 375 ms.
LoadResult overload() {
  LoadResult result = two_requests();
  for (const double seconds : {0.125, 0.375}) {
    LoadSample& sample = result.samples.emplace_back();
    sample.begin_s = 1;
    sample.end_s = 1 + seconds;
    sample.refused = true;
    sample.error = "full";
  }
  return result;
}

TEST(LoadReport, ComputesItsFigures) {
  const LoadFigures figures = load_figures(two_requests(), {.ttft = std::chrono::milliseconds(250),
                                                            .itl = std::chrono::milliseconds(63)});
  EXPECT_EQ(figures.num_succeeded, 1);
  EXPECT_EQ(figures.num_failed, 1);
  EXPECT_EQ(figures.first_error, "too few");
  EXPECT_EQ(figures.arrived_per_s, 1.5);
  EXPECT_EQ(figures.tokens_per_s, 2.5);
  EXPECT_THAT(figures.ttft_ms, ElementsAre(250));
  EXPECT_THAT(figures.gap_ms, ElementsAre(125, 125));
  EXPECT_THAT(figures.token_ms, ElementsAre(62.5));
  EXPECT_EQ(figures.goodput_per_s, 0.5);
  LoadResult open = two_requests();
  open.arrival_seconds = 1;  // the time until the last answer is not the clients'
  EXPECT_EQ(load_figures(open, {}).arrived_per_s, 3);
  EXPECT_EQ(load_figures(open, {}).tokens_per_s, 2.5);
  const LoadFigures late =
      load_figures(two_requests(), {.ttft = std::chrono::milliseconds(249), .itl = {}});
  EXPECT_EQ(late.goodput_per_s, 0);
  EXPECT_THAT(load_text(figures, {}),
              HasSubstr("1 requests answered, 1 failed (0 refused), 1 dropped"));
}

TEST(LoadReport, TellsHowSoonTheRefusedKnew) {
  const LoadFigures figures = load_figures(overload(), {});
  EXPECT_EQ(figures.num_failed, 3);
  EXPECT_EQ(figures.num_refused, 2);
  EXPECT_THAT(figures.refusal_ms, ElementsAre(125, 375));
  EXPECT_THAT(figures.total_ms, ElementsAre(500));  // of the answered one alone
  EXPECT_THAT(load_text(figures, {}), AllOf(HasSubstr("1 requests answered, 3 failed (2 refused)"),
                                            HasSubstr("until refused")));
  EXPECT_THAT(load_text(load_figures(two_requests(), {}), {}), Not(HasSubstr("until refused")));
  const auto json = nlohmann::json::parse(load_json(figures, {}));
  EXPECT_EQ(json["refused"], 2);
  EXPECT_EQ(json["refusal_ms"]["p50"], 250);
}

TEST(LoadPlot, IsWellFormedWhateverThereIs) {
  for (const LoadResult& result : {two_requests(), LoadResult{}}) {
    const std::string svg = load_plot(result, load_figures(result, {}), "a < b & c");
    EXPECT_THAT(svg, HasSubstr("a &lt; b &amp; c"));
    EXPECT_THAT(svg, HasSubstr("</svg>"));
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
  }
}

}  // namespace
}  // namespace sluice::cli
