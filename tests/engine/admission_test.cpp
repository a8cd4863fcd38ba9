#include <gtest/gtest.h>

#include <thread>

#include "tests/engine/fakes.h"

namespace sluice::engine {
namespace {

ErrorCode refusal(FakeService& fake, GenerateRequest request) {
  const auto result = fake.service->generate(std::move(request), std::make_shared<Recorder>());
  EXPECT_FALSE(result.has_value());
  return result ? ErrorCode::kInternal : result.error().code;
}

TEST(AdmissionTest, ALiveIdIsRefusedAndAnEndedOneIsFree) {
  FakeService fake;
  GenerateRequest request = request_of({1}, 3);
  request.request_id = "mine";
  fake.start(request);
  EXPECT_EQ(refusal(fake, request), ErrorCode::kAlreadyExists);
  fake.run_until_idle();
  const auto again = fake.start(request);
  fake.run_until_idle();
  EXPECT_EQ(again->end()->request_id, "mine");
}

TEST(AdmissionTest, IdsOfOtherClientsAreTheirOwn) {
  FakeService fake;
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (const char* client : {"", "a", "b"}) {
    GenerateRequest request = request_of({1}, 3);
    request.request_id = "shared";
    request.client = client;
    recorders.push_back(fake.start(request));
    EXPECT_EQ(refusal(fake, request), ErrorCode::kAlreadyExists) << client;
  }
  fake.run_until_idle();
  for (const auto& recorder : recorders) {
    ASSERT_TRUE(recorder->end().has_value());
    EXPECT_EQ(recorder->end()->request_id, "shared");
  }
}

TEST(AdmissionTest, AFullQueueRefusesAtOnceAndCountsCompletions) {
  FakeServiceOptions options;
  options.max_num_seqs = 2;
  options.limits.max_queued_requests = 3;
  FakeService fake(options);
  GenerateRequest three = request_of({1}, 3);
  three.n = 3;
  const auto first = fake.start(three);
  EXPECT_EQ(refusal(fake, three), ErrorCode::kResourceExhausted);
  const auto second = fake.start(request_of({1}, 3));
  const auto third = fake.start(request_of({2}, 3));
  EXPECT_EQ(refusal(fake, request_of({1}, 3)), ErrorCode::kResourceExhausted);
  fake.run_until_idle();
  EXPECT_TRUE(first->end().has_value());
  EXPECT_TRUE(third->end().has_value());
  EXPECT_TRUE(fake.start(three) != nullptr);
}

TEST(AdmissionTest, MoreCompletionsThanThereArePlacesAreInvalid) {
  FakeServiceOptions options;
  options.max_num_seqs = 1;
  options.limits.max_queued_requests = 1;
  FakeService fake(options);
  GenerateRequest request = request_of({1}, 3);
  request.n = 3;
  EXPECT_EQ(refusal(fake, request), ErrorCode::kInvalidArgument);
  request.n = 2;
  EXPECT_TRUE(fake.start(request) != nullptr);
}

TEST(AdmissionTest, AHugeLimitCostsNoMemory) {
  FakeServiceOptions options;
  options.limits.max_queued_requests = INT32_MAX;
  FakeService fake(options);
  const auto recorder = fake.start(request_of({1}, 3));
  fake.run_until_idle();
  EXPECT_TRUE(recorder->end().has_value());
}

TEST(AdmissionTest, AnEndlessDrainWaits) {
  FakeService fake;
  ASSERT_TRUE(fake.service->start([]() -> Result<void> { return {}; }).has_value());
  const auto recorder = fake.start(request_of({1}, 50));
  EXPECT_EQ(fake.service->drain(std::chrono::nanoseconds::max()), DrainEnd::kFinished);
  EXPECT_TRUE(recorder->end().has_value());
}

TEST(AdmissionTest, DrainingRefusesNewAndFinishesOld) {
  FakeService fake;
  const auto recorder = fake.start(request_of({1}, 5));
  fake.service->tick();
  EXPECT_FALSE(fake.service->health().ready);  // not started on threads
  fake.service->begin_drain();
  EXPECT_EQ(refusal(fake, request_of({1}, 3)), ErrorCode::kUnavailable);
  fake.run_until_idle();
  EXPECT_EQ(recorder->tokens(), expected_tokens({1}, 5));
  EXPECT_EQ(fake.service->drain(std::chrono::seconds(0)), DrainEnd::kFinished);
}

TEST(AdmissionTest, WhatTheDrainLimitCutsOffIsUnavailable) {
  FakeService fake;
  const auto running = fake.start(request_of({1}, 5));
  fake.service->tick();
  const auto queued = fake.start(request_of({2}, 5));
  EXPECT_EQ(fake.service->drain(std::chrono::seconds(0)), DrainEnd::kCutOff);
  ASSERT_TRUE(running->has_ended() && queued->has_ended());
  EXPECT_EQ(running->end().error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(queued->end().error().code, ErrorCode::kUnavailable);
}

// A step that does not come back holds nobody up: not the clients, not who drains.
TEST(AdmissionTest, AStuckStepDoesNotHoldUpTheDrain) {
  std::atomic<bool> is_released = false;
  std::atomic<int> num_steps = 0;
  FakeService fake;
  fake.script->computes = [&](const StepInput&) {
    if (++num_steps == 3) is_released.wait(false);
  };
  ASSERT_TRUE(fake.service->start([]() -> Result<void> { return {}; }).has_value());
  GenerateRequest pair = request_of({1}, 5);
  pair.n = 2;
  const auto running = fake.start(pair);
  while (num_steps < 3) std::this_thread::yield();
  const auto queued = fake.start(request_of({2}, 5));
  EXPECT_EQ(fake.service->drain(std::chrono::seconds(0)), DrainEnd::kStuck);
  for (const auto& recorder : {running, queued}) {
    ASSERT_TRUE(recorder->has_ended());
    EXPECT_EQ(recorder->end().error().code, ErrorCode::kUnavailable);
    const Usage usage = recorder->usage().first;
    for (const auto time : {usage.queue_time, usage.prefill_time, usage.decode_time}) {
      EXPECT_GE(time.count(), 0);
    }
  }
  EXPECT_EQ(running->usage().first.completion_tokens > 0, !running->tokens().empty());
  is_released = true;  // what the engine says now is for nobody
  is_released.notify_all();
}

TEST(AdmissionTest, ACallMayOutliveTheService) {
  std::shared_ptr<GenerateCall> call;
  {
    FakeService fake;
    fake.start(request_of({1}, 5));
    call = fake.call;
  }
  call->delivered(3);
  call->cancel();
}

TEST(HealthTest, LivenessIsProgress) {
  FakeService fake;
  EXPECT_TRUE(fake.service->health().live);
  fake.clock.advance(std::chrono::minutes(2));
  EXPECT_FALSE(fake.service->health().live);
  fake.service->tick();
  EXPECT_TRUE(fake.service->health().live);
}

TEST(HealthTest, HowLongAStepMayTakeIsSet) {
  FakeServiceOptions options;
  options.live_within = std::chrono::minutes(5);
  FakeService fake(options);
  fake.clock.advance(std::chrono::minutes(4));
  EXPECT_TRUE(fake.service->health().live);
  fake.clock.advance(std::chrono::minutes(2));
  EXPECT_FALSE(fake.service->health().live);
}

// The real threads, with clients that come, read, cancel and go at once: for the sanitizers.
TEST(ThreadsTest, ManyClients) {
  FakeServiceOptions options;
  options.num_blocks = 24;
  options.limits.max_undelivered_tokens = 8;
  FakeService fake(options);
  ASSERT_TRUE(fake.service->start([]() -> Result<void> { return {}; }).has_value());
  EXPECT_TRUE(fake.service->health().ready);
  std::vector<std::thread> clients;
  std::atomic<int> num_right{0};
  for (int64_t c = 0; c < 4; ++c) {
    clients.emplace_back([&, c] {
      for (int64_t i = 0; i < 25; ++i) {
        const std::vector<int64_t> prompt = {c, i % 20, 1};
        auto recorder = std::make_shared<Recorder>();
        auto call = fake.service->generate(request_of(prompt, 20), recorder);
        if (!call) continue;
        if (i % 5 == 4) (*call)->cancel();
        size_t taken = 0;
        while (!recorder->has_ended()) {
          const size_t seen = recorder->tokens().size();
          (*call)->delivered(static_cast<int32_t>(seen - taken));
          taken = seen;
          std::this_thread::yield();
        }
        const bool is_right = recorder->end().has_value()
                                  ? recorder->tokens() == expected_tokens(prompt, 20)
                                  : recorder->end().error().code == ErrorCode::kCancelled;
        num_right += is_right;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(num_right, 100);
  EXPECT_EQ(fake.service->drain(std::chrono::seconds(10)), DrainEnd::kFinished);
}

TEST(ThreadsTest, AFailedPreparationIsReported) {
  FakeService fake;
  const auto started =
      fake.service->start([]() -> Result<void> { return fail(ErrorCode::kInternal, "no"); });
  ASSERT_FALSE(started.has_value());
  EXPECT_EQ(started.error().message, "no");
}

}  // namespace
}  // namespace sluice::engine
