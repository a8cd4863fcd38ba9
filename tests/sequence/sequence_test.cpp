#include "sequence/sequence.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <thread>
#include <vector>

namespace sluice::sequence {
namespace {

StopCriteria criteria() {
  StopCriteria stop;
  stop.max_tokens = 5;
  stop.max_length = 100;
  stop.end_token_ids = {2, 3};
  stop.stop_token_ids = {9};
  return stop;
}

TEST(StopCriteriaTest, EndAndStopTokensStop) {
  const StopCriteria stop = criteria();
  EXPECT_EQ(stop.check(4, 1, 11), std::nullopt);
  EXPECT_EQ(stop.check(2, 1, 11), FinishReason::kStop);
  EXPECT_EQ(stop.check(3, 1, 11), FinishReason::kStop);
  EXPECT_EQ(stop.check(9, 1, 11), FinishReason::kStop);
}

TEST(StopCriteriaTest, IgnoreEosKeepsTheRequestsOwnStopTokens) {
  StopCriteria stop = criteria();
  stop.ignore_eos = true;
  EXPECT_EQ(stop.check(2, 1, 11), std::nullopt);
  EXPECT_EQ(stop.check(9, 1, 11), FinishReason::kStop);
}

TEST(StopCriteriaTest, LengthLimits) {
  const StopCriteria stop = criteria();
  EXPECT_EQ(stop.check(4, 4, 99), std::nullopt);
  EXPECT_EQ(stop.check(4, 5, 99), FinishReason::kLength);
  EXPECT_EQ(stop.check(4, 1, 100), FinishReason::kLength);
  EXPECT_EQ(stop.check(2, 5, 100), FinishReason::kStop) << "the reason that says more";
}

TEST(StopCriteriaTest, NoStopWithinMinTokens) {
  StopCriteria stop = criteria();
  stop.min_tokens = 2;
  EXPECT_TRUE(stop.forbids_stop(1));
  EXPECT_FALSE(stop.forbids_stop(2));
  EXPECT_EQ(stop.check(2, 2, 12), std::nullopt);
  EXPECT_EQ(stop.check(2, 3, 13), FinishReason::kStop);
  stop.min_tokens = 5;
  EXPECT_EQ(stop.check(2, 5, 15), FinishReason::kLength);
}

std::unique_ptr<Sequence> make_sequence(SequenceSpec spec) {
  return std::make_unique<Sequence>(std::move(spec), std::make_shared<Signals>());
}

TEST(SequenceTest, AppendsAndStops) {
  SequenceSpec spec;
  spec.prompt = {5, 6};
  spec.stop = criteria();
  const auto sequence = make_sequence(std::move(spec));
  EXPECT_EQ(sequence->append(7), std::nullopt);
  EXPECT_EQ(sequence->append(2), FinishReason::kStop);
  EXPECT_EQ(sequence->num_prompt_tokens(), 2);
  EXPECT_EQ(sequence->num_generated(), 2);
  EXPECT_EQ(std::vector<int32_t>(sequence->tokens().begin(), sequence->tokens().end()),
            (std::vector<int32_t>{5, 6, 7, 2}));
  EXPECT_EQ(sequence->generated()[0], 7);
}

TEST(SequenceTest, ReaderIsSlowFromTheLimitOn) {
  SequenceSpec spec;
  spec.prompt = {1};
  spec.max_undelivered = 3;
  const auto sequence = make_sequence(std::move(spec));
  sequence->signals().undelivered_tokens = 2;
  EXPECT_FALSE(sequence->reader_is_slow());
  sequence->signals().undelivered_tokens = 3;
  EXPECT_TRUE(sequence->reader_is_slow());
}

TEST(SignalsTest, TheFirstStopCounts) {
  for (int round = 0; round < 100; ++round) {
    Signals signals;
    std::thread other([&] { signals.request_stop(StopSignal::kTextStop); });
    signals.request_stop(StopSignal::kCancelled);
    const StopSignal seen = signals.stop;
    other.join();
    EXPECT_NE(seen, StopSignal::kNone);
    EXPECT_EQ(signals.stop, seen);
  }
}

}  // namespace
}  // namespace sluice::sequence
