#include <gtest/gtest.h>

#include <algorithm>

#include "tests/engine/fakes.h"

namespace sluice::engine {
namespace {

// Cancels after `num_tokens` tokens, beside a neighbour.
TEST(CancelTest, AtEveryTokenTheBlocksComeBackWithinAStep) {
  for (int num_tokens = 0; num_tokens <= 6; ++num_tokens) {
    FakeService fake;
    const auto neighbour = fake.start(request_of({1, 2}, 12));
    const auto recorder = fake.start(request_of({3, 4, 5}, 8));
    const auto call = fake.call;
    for (int i = 0; i < num_tokens; ++i) fake.service->tick();
    // Where steps overlap, a token comes with the next step.
    if (num_tokens > 0 && FakeServiceOptions().overlaps) fake.service->tick();
    ASSERT_EQ(static_cast<int>(recorder->tokens().size()), num_tokens);
    call->cancel();
    call->cancel();
    fake.service->tick();
    ASSERT_TRUE(recorder->has_ended()) << num_tokens;
    EXPECT_EQ(recorder->end().error().code, ErrorCode::kCancelled);
    if (num_tokens == 0) {
      EXPECT_FALSE(recorder->last_chunk().has_value()) << "its error is all that there is to say";
    } else {
      EXPECT_EQ(recorder->last_chunk()->finish_reason, FinishReason::kCancelled);
    }
    EXPECT_EQ(static_cast<int>(recorder->tokens().size()), num_tokens);
    EXPECT_LE(fake.service->server_info().kv_blocks_used, (2 + num_tokens + 1 + 3) / 4);
    fake.run_until_idle();
    EXPECT_EQ(neighbour->tokens(), expected_tokens({1, 2}, 12));
    EXPECT_EQ(fake.service->server_info().kv_blocks_used, 0);
  }
}

// What a request used is told however it ends.
TEST(UsageTest, IsToldOfWhatEndsWithoutASummary) {
  FakeServiceOptions options;
  options.max_num_seqs = 1;
  FakeService fake(options);
  fake.script->computes = [&](const StepInput&) { fake.clock.advance(std::chrono::seconds(1)); };
  const auto cancelled = fake.start(request_of({1, 2}, 8));
  const auto call = fake.call;
  const auto waiting = fake.start(request_of({3, 4, 5}, 8));
  const auto never_ran = fake.call;
  for (int i = 0; i < 4; ++i) fake.service->tick();
  never_ran->cancel();
  call->cancel();
  fake.run_until_idle();
  const auto [usage, reason] = cancelled->usage();
  EXPECT_EQ(reason, FinishReason::kCancelled);
  EXPECT_EQ(usage.prompt_tokens, 2);
  EXPECT_EQ(usage.completion_tokens, std::ssize(cancelled->tokens()));
  EXPECT_GE(usage.completion_tokens, 3);
  EXPECT_EQ(usage.queue_time.count(), 0);
  EXPECT_EQ(usage.prefill_time, std::chrono::seconds(1));
  EXPECT_EQ(usage.decode_time, std::chrono::seconds(usage.completion_tokens - 1));
  const Usage unused = waiting->usage().first;
  EXPECT_EQ(unused.prompt_tokens, 3);
  EXPECT_EQ(unused.completion_tokens, 0);
  EXPECT_GE(unused.queue_time, std::chrono::seconds(3));
  EXPECT_EQ(unused.prefill_time.count() + unused.decode_time.count(), 0);

  GenerateRequest pair = request_of({6}, 2);
  pair.n = 2;
  const auto whole = fake.start(pair);
  fake.run_until_idle();
  EXPECT_EQ(whole->usage().second, FinishReason::kLength);
  EXPECT_EQ(whole->usage().first.completion_tokens, 4);
  EXPECT_EQ(whole->usage().first.queue_time, whole->end()->usage.queue_time);
}

TEST(CancelTest, AfterTheEndNothingHappens) {
  FakeService fake;
  const auto recorder = fake.start(request_of({3}, 2));
  fake.run_until_idle();
  fake.call->cancel();
  fake.call->delivered(100);
  fake.run_until_idle();
  EXPECT_TRUE(recorder->end().has_value());
}

// Whoever is told may die at once, although the engine sleeps and the caller keeps the call.
TEST(CancelTest, TheObserverIsLetGoAtTheEnd) {
  for (const bool cancels : {false, true}) {
    FakeService fake;
    std::weak_ptr<Recorder> observer = fake.start(request_of({3}, 2));
    if (cancels) fake.call->cancel();
    fake.run_until_idle();
    EXPECT_TRUE(observer.expired()) << cancels;
  }
}

TEST(CancelTest, EndsAllCompletions) {
  FakeService fake;
  GenerateRequest request = request_of({3}, 20);
  request.n = 4;
  const auto recorder = fake.start(request);
  for (int i = 0; i < 3; ++i) fake.service->tick();
  fake.call->cancel();
  fake.run_until_idle();
  EXPECT_EQ(recorder->end().error().code, ErrorCode::kCancelled);
  EXPECT_EQ(fake.service->server_info().requests_running, 0);
}

TEST(DeadlineTest, PassedBeforeItStarts) {
  FakeService fake;
  GenerateRequest request = request_of({3}, 2);
  request.deadline = fake.clock.now();
  const auto refused = fake.service->generate(request, std::make_shared<Recorder>());
  EXPECT_EQ(refused.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(fake.script->num_steps, 0);
}

TEST(DeadlineTest, PassesWhileItRuns) {
  FakeService fake;
  GenerateRequest request = request_of({3}, 20);
  request.deadline = fake.clock.now() + std::chrono::seconds(1);
  const auto recorder = fake.start(request);
  for (int i = 0; i < 3; ++i) fake.service->tick();
  fake.clock.advance(std::chrono::seconds(1));
  fake.service->tick();
  ASSERT_TRUE(recorder->has_ended());
  EXPECT_EQ(recorder->end().error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(recorder->last_chunk()->finish_reason, FinishReason::kDeadline);
  EXPECT_EQ(fake.service->server_info().kv_blocks_used, 0);
}

TEST(DeadlineTest, TheServersOwnLimitCounts) {
  FakeServiceOptions options;
  options.limits.max_request_age = std::chrono::seconds(5);
  FakeService fake(options);
  GenerateRequest request = request_of({3}, 20);
  request.deadline = fake.clock.now() + std::chrono::hours(24 * 365 * 100);
  const auto recorder = fake.start(request);
  fake.service->tick();
  fake.clock.advance(std::chrono::seconds(6));
  fake.run_until_idle();
  EXPECT_EQ(recorder->end().error().code, ErrorCode::kDeadlineExceeded);
}

TEST(PreemptionTest, TokensAreTheSameAsAlone) {
  FakeServiceOptions options;
  options.num_blocks = 6;  // room for two of the four
  FakeService fake(options);
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int64_t i = 0; i < 4; ++i) recorders.push_back(fake.start(request_of({i, i, i}, 15)));
  fake.run_until_idle();
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(recorders[i]->tokens(), expected_tokens({i, i, i}, 15));
  }
  EXPECT_GT(fake.script->starts.size(), 4u) << "nothing was preempted";
  EXPECT_EQ(fake.service->server_info().kv_blocks_used, 0);
}

TEST(FlowTest, ASlowReaderPausesAndGoesOn) {
  FakeServiceOptions options;
  options.limits.max_undelivered_tokens = 4;
  FakeService fake(options);
  const auto slow = fake.start(request_of({3}, 10));
  const auto call = fake.call;
  const auto quick = fake.start(request_of({5}, 4));
  fake.run_until_idle();
  EXPECT_EQ(slow->tokens().size(), 4u);
  EXPECT_EQ(quick->tokens().size(), 4u);
  call->delivered(3);
  fake.run_until_idle();
  EXPECT_EQ(slow->tokens().size(), 7u);
  call->delivered(100);
  fake.run_until_idle();
  EXPECT_EQ(slow->tokens(), expected_tokens({3}, 10));
  EXPECT_TRUE(slow->end().has_value());
}

TEST(FlowTest, APromptChunkDoesNotCountAgainstTheReader) {
  FakeServiceOptions options;
  options.limits.max_undelivered_tokens = 4;
  FakeService fake(options);
  GenerateRequest request = request_of({3, 4, 5, 6, 7, 8}, 10);
  request.echo = true;
  const auto recorder = fake.start(request);
  fake.run_until_idle();
  EXPECT_EQ(recorder->tokens().size(), 4u);
  fake.call->delivered(6);  // the prompt
  fake.run_until_idle();
  EXPECT_EQ(recorder->tokens().size(), 4u);
  fake.call->delivered(4);
  fake.run_until_idle();
  EXPECT_EQ(recorder->tokens().size(), 8u);
}

TEST(FlowTest, AReaderThatNeverTakesAnythingIsEnded) {
  FakeServiceOptions options;
  options.limits.max_undelivered_tokens = 4;
  options.limits.stall_time = std::chrono::seconds(30);
  FakeService fake(options);
  const auto recorder = fake.start(request_of({3}, 10));
  fake.run_until_idle();
  fake.clock.advance(std::chrono::seconds(29));
  fake.run_until_idle();
  EXPECT_FALSE(recorder->has_ended());
  fake.clock.advance(std::chrono::seconds(2));
  fake.run_until_idle();
  ASSERT_TRUE(recorder->has_ended());
  EXPECT_EQ(recorder->end().error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(fake.service->server_info().kv_blocks_used, 0);
}

bool holds(const StepInput& input, int32_t token) {
  return std::ranges::find(input.batch.tokens, token) != input.batch.tokens.end();
}

TEST(FailureTest, TheOneToBlameEndsAndItsNeighboursGoOn) {
  FakeService fake;
  fake.script->fails = [](const StepInput& input) -> std::optional<Error> {
    if (!holds(input, 26)) return std::nullopt;
    return Error{ErrorCode::kInternal, "secret detail"};
  };
  const auto left = fake.start(request_of({1, 2, 3, 4, 5}, 9));
  const auto culprit = fake.start(request_of({7, 26}, 9));
  const auto right = fake.start(request_of({1, 2, 3, 4, 5}, 9));
  fake.run_until_idle();
  ASSERT_FALSE(culprit->end().has_value());
  EXPECT_EQ(culprit->end().error().code, ErrorCode::kInternal);
  EXPECT_EQ(culprit->end().error().message.find("secret"), std::string::npos);
  EXPECT_TRUE(culprit->chunks().empty()) << "it had no token yet";
  EXPECT_EQ(left->tokens(), expected_tokens({1, 2, 3, 4, 5}, 9));
  EXPECT_EQ(right->tokens(), left->tokens());
  EXPECT_EQ(fake.service->server_info().kv_blocks_used, 0);

  // The error id joins what the client and what the operator see.
  const std::string message = culprit->end().error().message;
  const size_t begin = message.find("(error ") + 7;
  const std::string id = message.substr(begin, message.find(')') - begin);
  EXPECT_TRUE(std::ranges::any_of(fake.notices, [&](const std::string& line) {
    return line.find(id) != std::string::npos && line.find("secret detail") != std::string::npos;
  }));
}

TEST(FailureTest, AtEveryStepOfTheCulprit) {
  for (uint32_t step = 0; step < 5; ++step) {
    FakeService fake;
    const int32_t poison = expected_tokens({7, 7}, 5)[step];
    fake.script->fails = [&](const StepInput& input) -> std::optional<Error> {
      for (size_t t = 0; t < input.batch.tokens.size(); ++t) {
        if (input.batch.tokens[t] == poison &&
            input.batch.positions[t] == static_cast<int32_t>(2 + step)) {
          return Error{ErrorCode::kInternal, "scripted"};
        }
      }
      return std::nullopt;
    };
    const auto culprit = fake.start(request_of({7, 7}, 9));
    const auto neighbour = fake.start(request_of({1}, 20));
    fake.run_until_idle();
    EXPECT_FALSE(culprit->end().has_value());
    EXPECT_EQ(culprit->tokens().size(), step + 1);
    EXPECT_EQ(neighbour->end().has_value(), true);
  }
}

TEST(FailureTest, AFailureThatDoesNotComeBackEndsNobody) {
  FakeService fake;
  bool has_failed = false;
  fake.script->fails = [&](const StepInput& input) -> std::optional<Error> {
    if (has_failed || input.batch.sequence_starts.size() < 3) return std::nullopt;
    has_failed = true;
    return Error{ErrorCode::kInternal, "once"};
  };
  const auto a = fake.start(request_of({1}, 6));
  const auto b = fake.start(request_of({2, 3, 4, 5, 6}, 6));
  fake.run_until_idle();
  EXPECT_TRUE(has_failed);
  EXPECT_EQ(a->tokens(), expected_tokens({1}, 6));
  EXPECT_EQ(b->tokens(), expected_tokens({2, 3, 4, 5, 6}, 6));
}

// Later steps are smaller, and nobody loses anything.
TEST(FailureTest, AStepWithoutMemoryIsMadeSmaller) {
  FakeService fake;
  int num_failed = 0;
  fake.script->fails = [&](const StepInput& input) -> std::optional<Error> {
    if (input.batch.context_lengths.size() <= 3) return std::nullopt;
    ++num_failed;
    return Error{ErrorCode::kResourceExhausted, "there was no memory for this step"};
  };
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int64_t i = 0; i < 8; ++i) recorders.push_back(fake.start(request_of({i, i}, 12)));
  fake.run_until_idle();
  for (int64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(recorders[static_cast<size_t>(i)]->tokens(), expected_tokens({i, i}, 12));
  }
  EXPECT_LE(num_failed, 3) << "8 sequences, at most 4, at most 2";
  EXPECT_EQ(fake.notices.size(), static_cast<size_t>(num_failed));
  EXPECT_EQ(fake.service->server_info().kv_blocks_used, 0);
}

TEST(FailureTest, WhatHasNoMemoryAloneIsToldSo) {
  FakeService fake;
  fake.script->fails = [](const StepInput& input) -> std::optional<Error> {
    if (!holds(input, 26)) return std::nullopt;
    return Error{ErrorCode::kResourceExhausted, "secret detail"};
  };
  const auto large = fake.start(request_of({7, 26}, 9));
  const auto neighbour = fake.start(request_of({1, 2, 3, 4, 5}, 9));
  fake.run_until_idle();
  ASSERT_FALSE(large->end().has_value());
  EXPECT_EQ(large->end().error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(large->end().error().message.find("secret"), std::string::npos);
  EXPECT_EQ(neighbour->tokens(), expected_tokens({1, 2, 3, 4, 5}, 9));
}

// A device that is lost answers nobody any more: all end at once, and nobody is taken in.
TEST(FailureTest, ALostDeviceEndsEverything) {
  for (const bool is_lost_alone : {false, true}) {
    FakeService fake;
    int num_failed = 0;
    fake.script->fails = [&](const StepInput&) -> std::optional<Error> {
      if (fake.script->num_steps < 3) return std::nullopt;
      const bool is_first = ++num_failed == 1;
      return Error{is_lost_alone && is_first ? ErrorCode::kInternal : ErrorCode::kUnavailable,
                   "cuda:0 does not answer any more"};
    };
    const auto a = fake.start(request_of({1, 2}, 9));
    const auto b = fake.start(request_of({3}, 9));
    EXPECT_TRUE(fake.service->health().live);
    fake.run_until_idle();
    for (const auto& ended : {a, b}) {
      ASSERT_TRUE(ended->has_ended());
      EXPECT_EQ(ended->end().error().code, ErrorCode::kUnavailable);
      EXPECT_FALSE(ended->tokens().empty()) << "what came before is the client's";
    }
    EXPECT_EQ(num_failed, is_lost_alone ? 2 : 1) << "nothing is tried on it again";
    EXPECT_EQ(fake.lost, std::vector<std::string>{"cuda:0 does not answer any more"});
    EXPECT_FALSE(fake.service->health().live);
    EXPECT_FALSE(fake.service->health().ready);
    const auto refused = fake.service->generate(request_of({1}, 1), std::make_shared<Recorder>());
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  }
}

TEST(FailureTest, ARowThatIsNotFiniteEndsItsRequestOnly) {
  FakeService fake;
  fake.script->fault = [](int32_t, uint32_t position) {
    return position == 9 ? sampling::RowFault::kNotFinite : sampling::RowFault::kNone;
  };
  const auto culprit = fake.start(request_of({1, 2, 3, 4, 5, 6}, 9));
  const auto neighbour = fake.start(request_of({1, 2}, 6));
  fake.run_until_idle();
  EXPECT_EQ(culprit->end().error().code, ErrorCode::kInternal);
  EXPECT_EQ(culprit->tokens().size(), 3u);
  EXPECT_EQ(neighbour->tokens(), expected_tokens({1, 2}, 6));
}

TEST(FailureTest, NothingLeftToDrawIsTheRequestsOwnFault) {
  FakeService fake;
  fake.script->fault = [](int32_t, uint32_t) { return sampling::RowFault::kNothingLeft; };
  const auto recorder = fake.start(request_of({1}, 9));
  fake.run_until_idle();
  EXPECT_EQ(recorder->end().error().code, ErrorCode::kInvalidArgument);
}

TEST(FailureTest, OneCompletionsFaultEndsTheOthersOfItsRequest) {
  FakeService fake;
  int num_draws = 0;
  fake.script->fault = [&](int32_t, uint32_t position) {
    return position == 3 && ++num_draws == 2 ? sampling::RowFault::kNotFinite
                                             : sampling::RowFault::kNone;
  };
  GenerateRequest request = request_of({1}, 9);
  request.n = 3;
  const auto recorder = fake.start(request);
  fake.run_until_idle();
  EXPECT_EQ(recorder->end().error().code, ErrorCode::kInternal);
  for (int32_t index = 0; index < 3; ++index) {
    EXPECT_TRUE(recorder->last_chunk(index)->finish_reason.has_value());
  }
  EXPECT_EQ(fake.service->server_info().kv_blocks_used, 0);
}

}  // namespace
}  // namespace sluice::engine
