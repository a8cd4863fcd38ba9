#include "server/access/limited_service.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/access/token_bucket.h"
#include "tests/base/fake_clock.h"
#include "tests/server/fake_service.h"

namespace sluice::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

TEST(TokenBucket, StartsFullFillsEvenlyAndHoldsOneMinute) {
  base::FakeClock clock;
  TokenBucket bucket(clock.now());
  const auto has = [&](int64_t amount) {
    bucket.fill(clock.now(), 60);
    return bucket.has(amount, 60);
  };
  EXPECT_TRUE(has(60));
  EXPECT_FALSE(has(61));
  bucket.take(60);
  EXPECT_FALSE(has(1));
  EXPECT_EQ(bucket.time_until(1, 60), seconds(1));
  clock.advance(milliseconds(999));
  EXPECT_FALSE(has(1));
  clock.advance(milliseconds(1));
  EXPECT_TRUE(has(1));
  EXPECT_FALSE(has(2));
  clock.advance(minutes(5));
  EXPECT_TRUE(has(60));
  EXPECT_FALSE(has(61));
}

TEST(TokenBucket, AnOverdraftIsMadeUpForFirst) {
  base::FakeClock clock;
  TokenBucket bucket(clock.now());
  bucket.fill(clock.now(), 600);
  bucket.take(1200);
  EXPECT_EQ(bucket.time_until(1, 600), milliseconds(60'100));
  clock.advance(milliseconds(60'099));
  bucket.fill(clock.now(), 600);
  EXPECT_FALSE(bucket.has(1, 600));
  clock.advance(milliseconds(2));
  bucket.fill(clock.now(), 600);
  EXPECT_TRUE(bucket.has(1, 600));
}

TEST(TokenBucket, ARetryTimeIsNeverLongerThanADayAndAClockThatGoesBackIsIgnored) {
  base::FakeClock clock;
  TokenBucket bucket(clock.now());
  bucket.take(int64_t{1} << 60);
  EXPECT_EQ(bucket.time_until(1, 1), std::chrono::hours(24));
  bucket.take(-(int64_t{1} << 60));
  bucket.take(1);
  bucket.fill(clock.now() - seconds(100), 60);
  EXPECT_FALSE(bucket.has(60, 60));
}

TEST(TokenBucket, IsFullOnceItHasMadeUpForWhatWasTaken) {
  base::FakeClock clock;
  TokenBucket bucket(clock.now());
  EXPECT_TRUE(bucket.is_full(clock.now()));
  bucket.fill(clock.now(), 60);
  bucket.take(90);
  EXPECT_FALSE(bucket.is_full(clock.now()));
  clock.advance(seconds(89));
  EXPECT_FALSE(bucket.is_full(clock.now()));
  clock.advance(seconds(1));
  EXPECT_TRUE(bucket.is_full(clock.now()));
}

class Ends final : public GenerateObserver {
 public:
  void on_chunk(GenerateChunk chunk) override {
    num_tokens += static_cast<int64_t>(chunk.token_ids.size());
  }
  void on_end(Result<GenerateSummary>) override { has_ended = true; }
  std::atomic<int64_t> num_tokens = 0;
  std::atomic<bool> has_ended = false;
};

class Limited : public testing::Test {
 protected:
  // What a client asks; its call ends when the test says so.
  Result<std::shared_ptr<GenerateCall>> ask(const std::string& client,
                                            size_t num_prompt_tokens = 1) {
    GenerateRequest request;
    request.client = client;
    request.token_ids.emplace(num_prompt_tokens, 1);
    observer_ = std::make_shared<Ends>();
    return limited_.generate(std::move(request), observer_);
  }
  bool is_taken(const std::string& client, size_t num_prompt_tokens = 1) {
    const auto call = ask(client, num_prompt_tokens);
    if (call) finish(0);
    return call.has_value();
  }
  Error refusal(const std::string& client) {
    const auto call = ask(client);
    EXPECT_FALSE(call.has_value());
    return call ? Error{} : call.error();
  }
  int64_t num_limited(const char* limit) {
    return inner_.metrics()
        .counter({"sluice_requests_limited_total", "", {{"limit", limit}}})
        .value();
  }
  // Ends the newest call after `num_tokens` tokens.
  void finish(int num_tokens) {
    const auto call = inner_.wait_for_call(num_calls_++);
    for (int i = 0; i < num_tokens; ++i) call->send(i, "");
    call->finish();
    EXPECT_TRUE(observer_->has_ended);
    EXPECT_EQ(observer_->num_tokens, num_tokens);
  }

  std::map<std::string, ClientLimits> limits_;
  base::FakeClock clock_;
  FakeService inner_{[](FakeCall&) {}};
  LimitedService limited_{inner_, [this](const std::string& client) { return limits_[client]; },
                          clock_};
  std::shared_ptr<Ends> observer_;
  size_t num_calls_ = 0;
};

TEST_F(Limited, RequestsAMinute) {
  limits_["a"].requests_per_minute = 3;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(is_taken("a"));
  const Error error = refusal("a");
  EXPECT_EQ(error.code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(error.message, "the limit of this API key is reached: requests_per_minute is 3");
  EXPECT_EQ(error.retry_after, seconds(20));
  EXPECT_TRUE(is_taken("b")) << "another client";
  EXPECT_TRUE(is_taken("")) << "nobody in particular";
  clock_.advance(seconds(20));
  EXPECT_TRUE(is_taken("a"));
  EXPECT_FALSE(is_taken("a"));
  EXPECT_EQ(inner_.num_calls(), num_calls_) << "a refused request reached the service";
  EXPECT_EQ(num_limited("requests_per_minute"), 2);
  EXPECT_EQ(num_limited("tokens_per_minute"), 0);
}

TEST_F(Limited, TokensOfPromptAndCompletion) {
  limits_["a"].tokens_per_minute = 100;
  ASSERT_TRUE(ask("a", 60));
  finish(39);
  EXPECT_TRUE(is_taken("a", 5)) << "one token was left";  // overdrawn by 4 now
  const Error error = refusal("a");
  EXPECT_EQ(error.message, "the limit of this API key is reached: tokens_per_minute is 100");
  EXPECT_EQ(error.retry_after, milliseconds(3000));
  clock_.advance(milliseconds(2999));
  EXPECT_FALSE(is_taken("a"));
  clock_.advance(milliseconds(1));
  EXPECT_TRUE(is_taken("a"));
}

TEST_F(Limited, AnEchoedPromptIsNotCountedTwice) {
  limits_["a"].tokens_per_minute = 100;
  ASSERT_TRUE(ask("a", 60));
  GenerateChunk echo;
  echo.is_prompt = true;
  echo.token_ids.assign(60, 1);
  const auto call = inner_.wait_for_call(num_calls_++);
  call->send(echo);
  call->finish();
  ASSERT_TRUE(is_taken("a", 39));
  EXPECT_TRUE(is_taken("a", 1));
  EXPECT_FALSE(is_taken("a", 1));
}

TEST_F(Limited, RequestsAtOnce) {
  limits_["a"].concurrent_requests = 2;
  ASSERT_TRUE(ask("a"));
  const auto first = inner_.wait_for_call(num_calls_++);
  ASSERT_TRUE(ask("a"));
  const Error error = refusal("a");
  EXPECT_EQ(error.message, "the limit of this API key is reached: concurrent_requests is 2");
  EXPECT_TRUE(error.retry_after.has_value());
  ASSERT_TRUE(ask("b"));
  inner_.wait_for_call(2)->end_cancelled();
  first->end(fail(ErrorCode::kInternal, "an error is an end too"));
  EXPECT_TRUE(ask("a"));
  EXPECT_FALSE(ask("a"));
}

TEST_F(Limited, WhatTheServiceRefuses) {
  limits_["a"] = {.requests_per_minute = 2, .tokens_per_minute = 10, .concurrent_requests = 1};
  // For want of room: nothing is taken.
  for (const ErrorCode code : {ErrorCode::kResourceExhausted, ErrorCode::kUnavailable}) {
    inner_.generate_error = Error{code, "no room", milliseconds(7)};
    for (int i = 0; i < 5; ++i) EXPECT_EQ(refusal("a").retry_after, milliseconds(7));
  }
  // For being wrong: it was a request.
  inner_.generate_error = Error{ErrorCode::kInvalidArgument, "wrong"};
  EXPECT_EQ(refusal("a").code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal("a").code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal("a").code, ErrorCode::kResourceExhausted);
  inner_.generate_error.reset();
  clock_.advance(minutes(1));
  EXPECT_TRUE(is_taken("a", 10)) << "no token and no place was taken";
}

TEST_F(Limited, LimitsMayChange) {
  limits_["a"].requests_per_minute = 1;
  EXPECT_TRUE(is_taken("a"));
  EXPECT_FALSE(is_taken("a"));
  limits_["a"].requests_per_minute = 10;
  EXPECT_TRUE(is_taken("a"));
  limits_["a"] = {};
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(is_taken("a"));
}

// Whoever asks from many threads gets as much as one: no more, and no less.
TEST_F(Limited, HoldsUnderThreads) {
  limits_["a"].requests_per_minute = 50;
  std::atomic<int> num_taken = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 50; ++i) {
          GenerateRequest request;
          request.client = "a";
          if (limited_.generate(std::move(request), std::make_shared<Ends>())) ++num_taken;
        }
      });
    }
  }
  EXPECT_EQ(num_taken, 50);
}

}  // namespace
}  // namespace sluice::server
