// ttft_ms, total_ms and what cannot be had in time.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/engine/fakes.h"

namespace sluice::engine {
namespace {

using std::chrono::milliseconds;

// A model whose steps take a millisecond a row.
class TimeLimits : public testing::Test {
 protected:
  void start(FakeServiceOptions options) {
    fake_ = std::make_unique<FakeService>(options);
    fake_->script->computes = [this](const StepInput& input) {
      fake_->clock.advance(milliseconds(input.batch.tokens.size()));
    };
  }
  void SetUp() override { start({}); }

  // So many tokens that no other prompt begins alike.
  GenerateRequest fresh_request(size_t num_tokens, int64_t max_tokens) {
    std::vector<int64_t> ids(num_tokens, 3);
    for (int value = next_++; value > 0; value /= 20) ids.insert(ids.begin(), value % 20);
    ids.resize(num_tokens);
    return request_of(ids, max_tokens);
  }
  // After it the engine knows that a row takes a millisecond.
  void teach_speed() {
    fake_->start(fresh_request(40, 1));
    fake_->run_until_idle();
  }
  static void expect_deadline_exceeded(const Recorder& recorder, const std::string& message) {
    ASSERT_TRUE(recorder.has_ended());
    ASSERT_FALSE(recorder.end().has_value());
    EXPECT_EQ(recorder.end().error().code, ErrorCode::kDeadlineExceeded);
    EXPECT_NE(recorder.end().error().message.find(message), std::string::npos)
        << recorder.end().error().message;
    EXPECT_TRUE(recorder.tokens().empty());
  }

  std::unique_ptr<FakeService> fake_;
  int next_ = 1;
};

TEST_F(TimeLimits, TotalEndsWithTheTokensSoFar) {
  for (const int32_t n : {1, 3}) {
    start({});
    GenerateRequest request = request_of({1, 2}, 40);
    request.n = n;
    request.total_limit = milliseconds(20);
    const auto recorder = fake_->start(request);
    fake_->run_until_idle();
    ASSERT_TRUE(recorder->end().has_value()) << recorder->end().error().message;
    int32_t num_tokens = 0;
    for (int32_t index = 0; index < n; ++index) {
      const auto tokens = recorder->tokens(index);
      EXPECT_GE(tokens.size(), 4u);
      EXPECT_LT(tokens.size(), 40u);
      EXPECT_EQ(tokens, expected_tokens({1, 2}, static_cast<int32_t>(tokens.size())));
      EXPECT_EQ(recorder->last_chunk(index)->finish_reason, FinishReason::kDeadline);
      num_tokens += static_cast<int32_t>(tokens.size());
    }
    EXPECT_EQ(recorder->end()->usage.completion_tokens, num_tokens);
    EXPECT_EQ(recorder->end()->usage.prompt_tokens, 2);
    EXPECT_EQ(fake_->service->server_info().kv_blocks_used, 0);
  }
}

TEST_F(TimeLimits, WhoEndsInTimeIsNotTouched) {
  GenerateRequest request = request_of({1, 2}, 10);
  request.ttft_limit = milliseconds(100);
  request.total_limit = milliseconds(100);
  const auto recorder = fake_->start(request);
  fake_->run_until_idle();
  EXPECT_EQ(recorder->tokens(), expected_tokens({1, 2}, 10));
  EXPECT_EQ(recorder->last_chunk()->finish_reason, FinishReason::kLength);
}

TEST_F(TimeLimits, MissedInTheQueueIsNeverStarted) {
  for (const bool is_total : {false, true}) {
    FakeServiceOptions options;
    options.max_num_seqs = 1;
    start(options);
    const auto running = fake_->start(request_of({1, 2}, 50));
    fake_->service->tick();
    GenerateRequest request = request_of({9, 9}, 5);
    (is_total ? request.total_limit : request.ttft_limit) = milliseconds(10);
    const auto waiting = fake_->start(request);
    fake_->run_until_idle();
    expect_deadline_exceeded(*waiting, is_total ? "total_ms" : "ttft_ms");
    EXPECT_EQ(std::ranges::count(fake_->script->starts, 9), 0) << "it was computed";
    EXPECT_EQ(running->tokens(), expected_tokens({1, 2}, 50));
  }
}

TEST_F(TimeLimits, AFirstTokenThatComesLateEndsThePrefill) {
  GenerateRequest request = request_of(std::vector<int64_t>(60, 5), 3);
  request.ttft_limit = milliseconds(30);  // the first of two chunks takes 32
  const auto recorder = fake_->start(request);
  fake_->run_until_idle();
  expect_deadline_exceeded(*recorder, "ttft_ms");
  // Where steps overlap, the second one is under way when the first comes in.
  EXPECT_EQ(fake_->script->num_steps, FakeServiceOptions().overlaps ? 2 : 1);
  EXPECT_EQ(fake_->service->server_info().kv_blocks_used, 0);
}

TEST_F(TimeLimits, AnIdleServerThatKnowsNothingTriesEverything) {
  GenerateRequest request = fresh_request(30, 1);
  request.ttft_limit = milliseconds(1);
  const auto recorder = fake_->start(request);
  fake_->run_until_idle();
  EXPECT_EQ(recorder->tokens().size(), 1u);
}

// Small steps do not teach: their rows take longer than those of a long prompt will.
TEST_F(TimeLimits, SmallStepsDoNotTeach) {
  for (int i = 0; i < 20; ++i) fake_->start(fresh_request(4, 1)), fake_->run_until_idle();
  GenerateRequest request = fresh_request(30, 1);
  request.ttft_limit = milliseconds(1);
  const auto recorder = fake_->start(request);
  fake_->run_until_idle();
  EXPECT_EQ(recorder->tokens().size(), 1u);
}

TEST_F(TimeLimits, WhatCannotBeInTimeIsRefusedWithoutWork) {
  using Limit = std::function<void(GenerateRequest&, base::TimePoint, milliseconds)>;
  const std::vector<Limit> limits{
      [](auto& request, auto, auto time) { request.ttft_limit = time; },
      [](auto& request, auto, auto time) { request.total_limit = time; },
      [](auto& request, auto now, auto time) { request.deadline = now + time; }};
  for (const Limit& limit : limits) {
    start({});
    teach_speed();
    const int num_steps = fake_->script->num_steps;
    GenerateRequest hopeless = fresh_request(20, 1);
    limit(hopeless, fake_->clock.now(), milliseconds(19));
    const auto refused = fake_->start(hopeless);
    fake_->run_until_idle();
    expect_deadline_exceeded(*refused, "not started");
    EXPECT_EQ(fake_->script->num_steps, num_steps);

    GenerateRequest possible = fresh_request(20, 1);
    limit(possible, fake_->clock.now(), milliseconds(22));
    const auto served = fake_->start(possible);
    fake_->run_until_idle();
    EXPECT_EQ(served->tokens().size(), 1u);
  }
}

TEST_F(TimeLimits, WhatWaitsBeforeItCounts) {
  FakeServiceOptions options;
  options.max_num_seqs = 1;
  start(options);
  teach_speed();
  const auto running = fake_->start(fresh_request(40, 1));
  const auto before = fake_->start(fresh_request(20, 1));
  GenerateRequest request = fresh_request(20, 1);
  request.ttft_limit = milliseconds(70);
  const auto refused = fake_->start(request);
  fake_->service->tick();
  expect_deadline_exceeded(*refused, "not started");
  fake_->run_until_idle();
  EXPECT_TRUE(running->end().has_value());
  EXPECT_TRUE(before->end().has_value());
}

// With ttft_ms the request has its token; with total_ms the rest has no time left. Neither is an
// error of a stream under way.
TEST_F(TimeLimits, ACompletionThatWaitsDoesNotEndItsSibling) {
  for (const bool is_total : {false, true}) {
    for (const bool knows_speed : {false, true}) {
      FakeServiceOptions options;
      options.max_num_seqs = 1;
      start(options);
      if (knows_speed) teach_speed();
      GenerateRequest request = fresh_request(20, 30);
      request.n = 3;
      (is_total ? request.total_limit : request.ttft_limit) = milliseconds(30);
      const auto recorder = fake_->start(request);
      fake_->run_until_idle();
      ASSERT_TRUE(recorder->has_ended());
      ASSERT_TRUE(recorder->end().has_value()) << recorder->end().error().message;
      for (int32_t index = 0; index < 3; ++index) {
        const auto num_tokens = std::ssize(recorder->tokens(index));
        EXPECT_EQ(num_tokens == 30, !is_total);
        EXPECT_EQ(num_tokens == 0, is_total && index > 0);
        EXPECT_EQ(recorder->last_chunk(index)->finish_reason,
                  is_total ? FinishReason::kDeadline : FinishReason::kLength);
      }
      EXPECT_EQ(fake_->service->server_info().kv_blocks_used, 0);
    }
  }
}

// It may be answered from the cache, at once.
TEST_F(TimeLimits, APromptThatBeginsLikeAKnownOneIsTried) {
  FakeServiceOptions options;
  options.keep_prefixes = true;
  start(options);
  teach_speed();
  const GenerateRequest first = fresh_request(30, 1);
  fake_->start(first);
  GenerateRequest again = first;
  again.ttft_limit = milliseconds(45);
  const auto waits_behind_it = fake_->start(again);
  fake_->service->tick();
  EXPECT_FALSE(waits_behind_it->has_ended());
  fake_->run_until_idle();
  again.ttft_limit = milliseconds(10);
  const auto cached = fake_->start(again);
  fake_->run_until_idle();
  EXPECT_EQ(cached->tokens().size(), 1u);

  GenerateRequest fresh = fresh_request(30, 1);
  fresh.ttft_limit = milliseconds(10);
  const auto refused = fake_->start(fresh);
  fake_->run_until_idle();
  expect_deadline_exceeded(*refused, "not started");
}

TEST_F(TimeLimits, OutOfRangeIsInvalid) {
  const auto refusal = [&](std::chrono::nanoseconds ttft, std::chrono::nanoseconds total) {
    GenerateRequest request = request_of({1}, 1);
    request.ttft_limit = ttft;
    request.total_limit = total;
    const auto result = fake_->service->generate(request, std::make_shared<Recorder>());
    return result ? "" : result.error().message;
  };
  const milliseconds good(1000);
  EXPECT_EQ(refusal(milliseconds(0), good), "ttft_ms is 0, must be from 1 to 86400000");
  EXPECT_EQ(refusal(milliseconds(-5), good), "ttft_ms is -5, must be from 1 to 86400000");
  EXPECT_EQ(refusal(good, milliseconds(86'400'001)),
            "total_ms is 86400001, must be from 1 to 86400000");
  EXPECT_NE(refusal(good, base::Duration::max()), "");
  EXPECT_NE(refusal(base::Duration::min(), good), "");
  EXPECT_EQ(refusal(milliseconds(1), milliseconds(86'400'000)), "");
}

TEST_F(TimeLimits, TheQueueIsBoundedByTokensToo) {
  FakeServiceOptions options;
  options.max_num_seqs = 1;
  options.limits.max_queued_tokens = 50;
  start(options);
  const auto is_taken = [&](size_t num_tokens, int64_t n) {
    GenerateRequest request = fresh_request(num_tokens, 1);
    request.n = n;
    const auto result = fake_->service->generate(request, std::make_shared<Recorder>());
    if (result) return true;
    EXPECT_EQ(result.error().code, ErrorCode::kResourceExhausted);
    EXPECT_NE(result.error().message.find("--max-queued-tokens"), std::string::npos);
    EXPECT_TRUE(result.error().retry_after.has_value());
    return false;
  };
  for (int round = 0; round < 3; ++round) {
    EXPECT_TRUE(is_taken(60, 1)) << "nobody waits: any length goes";
    EXPECT_FALSE(is_taken(1, 1));
    fake_->service->tick();  // it starts, and waits no longer
    EXPECT_TRUE(is_taken(25, 1));
    EXPECT_FALSE(is_taken(26, 1));
    EXPECT_FALSE(is_taken(13, 2));
    EXPECT_TRUE(is_taken(25, 1));
    EXPECT_FALSE(is_taken(1, 1));
    fake_->run_until_idle();
  }
  // What ends without having started frees its place too.
  const auto running = fake_->start(fresh_request(4, 30));
  fake_->service->tick();
  const auto waiting = fake_->start(fresh_request(50, 1));
  EXPECT_FALSE(is_taken(1, 1));
  fake_->call->cancel();
  fake_->service->tick();
  EXPECT_TRUE(waiting->has_ended());
  EXPECT_TRUE(is_taken(50, 1));
  fake_->run_until_idle();
}

}  // namespace
}  // namespace sluice::engine
