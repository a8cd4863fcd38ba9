// Steps that are launched before the results of the one before have come in.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/engine/fakes.h"

namespace sluice::engine {
namespace {

FakeServiceOptions overlapping() {
  FakeServiceOptions options;
  options.overlaps = true;
  return options;
}

TEST(OverlapTest, TheNextStepIsLaunchedBeforeTheResultsAreIn) {
  FakeService fake(overlapping());
  const auto recorder = fake.start(request_of({0, 1, 2}, 3));
  EXPECT_TRUE(fake.service->tick());
  EXPECT_EQ(fake.script->num_steps, 1);
  EXPECT_TRUE(recorder->tokens().empty());
  EXPECT_TRUE(fake.service->tick());
  EXPECT_EQ(fake.script->num_steps, 2);
  EXPECT_EQ(recorder->tokens().size(), 1u);
  fake.run_until_idle();
  EXPECT_EQ(recorder->tokens(), expected_tokens({0, 1, 2}, 3));
  EXPECT_EQ(fake.service->server_info().kv_blocks_used, 0);
}

// How long a stream is at most is known before its last token is.
TEST(OverlapTest, NoRowIsWastedOnAnEndByLength) {
  FakeService fake(overlapping());
  const auto recorder = fake.start(request_of({0}, 5));
  fake.run_until_idle();
  EXPECT_EQ(recorder->last_chunk()->finish_reason, FinishReason::kLength);
  EXPECT_EQ(fake.script->num_steps, 5);
}

TEST(OverlapTest, OneRowIsWastedOnAnEndByTokenAndNobodySeesIt) {
  FakeService fake(overlapping());
  fake.script->token = [](int32_t last, uint32_t position) {
    return position == 4 ? LetterTokenizer::kEnd : ScriptedExecutor::default_token(last, position);
  };
  const auto recorder = fake.start(request_of({0}, 20));
  fake.run_until_idle();
  EXPECT_EQ(recorder->tokens().size(), 4u);
  EXPECT_EQ(recorder->last_chunk()->finish_reason, FinishReason::kStop);
  EXPECT_EQ(fake.script->num_steps, 5);
  EXPECT_EQ(fake.service->server_info().kv_blocks_used, 0);
}

TEST(OverlapTest, AFaultOfADrawEndsItsSequenceAlone) {
  FakeService fake(overlapping());
  fake.script->fault = [](int32_t, uint32_t position) {
    return position == 6 ? sampling::RowFault::kNotFinite : sampling::RowFault::kNone;
  };
  const auto faulty = fake.start(request_of({1, 2, 3}, 9));
  const auto neighbour = fake.start(request_of({4, 5, 6, 7, 8, 9, 10}, 9));
  fake.run_until_idle();
  ASSERT_FALSE(faulty->end().has_value());
  EXPECT_EQ(faulty->end().error().code, ErrorCode::kInternal);
  EXPECT_EQ(faulty->tokens().size(), 3u);
  EXPECT_EQ(neighbour->tokens(), expected_tokens({4, 5, 6, 7, 8, 9, 10}, 9));
}

// A token that is being drawn is dropped with its sequence, at whatever moment that ends.
TEST(OverlapTest, ACancelledSequenceLeavesItsRowUnderWay) {
  for (int ticks = 0; ticks < 6; ++ticks) {
    FakeService fake(overlapping());
    const auto neighbour = fake.start(request_of({1, 2}, 12));
    const auto cancelled = fake.start(request_of({3, 4, 5}, 12));
    const auto call = fake.call;
    for (int i = 0; i < ticks; ++i) fake.service->tick();
    const size_t had = cancelled->tokens().size();
    call->cancel();
    fake.service->tick();
    ASSERT_TRUE(cancelled->has_ended());
    EXPECT_EQ(cancelled->tokens().size(), had);
    fake.run_until_idle();
    EXPECT_EQ(neighbour->tokens(), expected_tokens({1, 2}, 12));
    EXPECT_EQ(fake.service->server_info().kv_blocks_used, 0);
  }
}

TEST(OverlapTest, AServerThatStopsWaitsForItsStepUnderWay) {
  FakeService fake(overlapping());
  const auto recorder = fake.start(request_of({1, 2}, 12));
  fake.service->tick();
  fake.service.reset();
  ASSERT_TRUE(recorder->has_ended());
  EXPECT_EQ(recorder->end().error().code, ErrorCode::kUnavailable);
}

// Everything at once in a pool that is too small, against what each request gives alone.
TEST(OverlapTest, TokensAreTheSameInAnyCompany) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 engine(seed);
    const auto below = [&](uint32_t limit) { return static_cast<int64_t>(engine() % limit); };
    FakeServiceOptions options = overlapping();
    options.num_blocks = 12 + static_cast<int32_t>(below(20));
    options.max_num_seqs = 2 + static_cast<int32_t>(below(6));
    options.max_num_batched_tokens = 8 + static_cast<int32_t>(below(24));
    options.keep_prefixes = below(2) == 0;
    options.limits.max_undelivered_tokens = 3 + static_cast<int32_t>(below(40));
    FakeService fake(options);
    const int64_t ends_at = 12 + below(12);
    fake.script->token = [&](int32_t last, uint32_t position) {
      return position == ends_at ? LetterTokenizer::kEnd
                                 : ScriptedExecutor::default_token(last, position);
    };
    struct Asked {
      std::vector<int64_t> prompt;
      int64_t max_tokens;
      std::shared_ptr<Recorder> recorder;
      std::shared_ptr<GenerateCall> call;
      size_t taken = 0;
      bool is_cancelled = false;
    };
    std::vector<Asked> all;
    const auto read = [](Asked& one) {
      const size_t had = one.recorder->tokens().size();
      one.call->delivered(static_cast<int32_t>(had - one.taken));
      one.taken = had;
    };
    for (int round = 0; round < 200; ++round) {
      if (all.size() < 14 && below(3) == 0) {
        Asked& one = all.emplace_back();
        for (int64_t i = 1 + below(9); i > 0; --i) one.prompt.push_back(below(4));
        one.max_tokens = 1 + below(24);
        one.recorder = fake.start(request_of(one.prompt, one.max_tokens));
        one.call = fake.call;
      }
      fake.service->tick();
      for (Asked& one : all) {
        if (below(2) == 0) read(one);
        if (below(150) == 0 && !one.recorder->has_ended()) {
          one.call->cancel();
          one.is_cancelled = true;
        }
      }
    }
    for (int round = 0; round < 200; ++round) {
      fake.run_until_idle();
      for (Asked& one : all) read(one);
    }
    for (const Asked& one : all) {
      ASSERT_TRUE(one.recorder->has_ended());
      const auto room = std::max<int64_t>(ends_at - std::ssize(one.prompt), 0) + 1;
      const bool ends_by_token = one.prompt.size() <= static_cast<size_t>(ends_at);
      const auto count = ends_by_token ? std::min(one.max_tokens, room) : one.max_tokens;
      std::vector<int32_t> expected = expected_tokens(one.prompt, static_cast<int32_t>(count));
      if (ends_by_token && one.max_tokens >= room) expected.back() = LetterTokenizer::kEnd;
      const std::vector<int32_t> tokens = one.recorder->tokens();
      if (one.is_cancelled) {
        ASSERT_LE(tokens.size(), expected.size());
        expected.resize(tokens.size());
      } else {
        EXPECT_TRUE(one.recorder->end().has_value());
      }
      EXPECT_EQ(tokens, expected);
    }
    EXPECT_EQ(fake.service->server_info().kv_blocks_used, 0);
  }
}

}  // namespace
}  // namespace sluice::engine
