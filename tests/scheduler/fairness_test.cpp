// Who goes first, when several clients wait.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/scheduler.h"
#include "tests/base/fake_clock.h"

namespace sluice::scheduler {
namespace {

using sequence::Sequence;
using sequence::SequenceSpec;
using sequence::SequenceState;
using sequence::Signals;

// A scheduler whose model draws the same token for ever, and what it has done for each client.
class Crowd final {
 public:
  explicit Crowd(SchedulerOptions options) : scheduler_(std::move(*Scheduler::create(options))) {}

  const Sequence* add(const std::string& client, int32_t num_prompt_tokens, int32_t max_tokens) {
    SequenceSpec spec;
    spec.client = client;
    for (int32_t i = 0; i < num_prompt_tokens; ++i) spec.prompt.push_back(next_token_++);
    spec.stop.max_tokens = max_tokens;
    spec.stop.max_length = 400;
    spec.max_undelivered = 1 << 20;
    std::vector<std::unique_ptr<Sequence>> one;
    one.push_back(std::make_unique<Sequence>(std::move(spec), std::make_shared<Signals>()));
    const Sequence* added = one.front().get();
    EXPECT_TRUE(scheduler_->add(one).has_value());
    ++num_waiting_[client];
    return added;
  }

  // Runs one step; the sequences that started in it, in order.
  std::vector<const Sequence*> step() {
    std::vector<const Sequence*> started;
    const StepSchedule& schedule = scheduler_->schedule(clock_.now());
    for (const ScheduledRows& rows : schedule.rows) {
      if (started_.insert(rows.sequence).second) {
        started.push_back(rows.sequence);
        --num_waiting_[rows.sequence->spec().client];
      }
      work_[rows.sequence->spec().client] += rows.num_tokens;
    }
    scheduler_->commit();
    for (const ScheduledRows& rows : schedule.rows) {
      if (!rows.draws_token || !rows.sequence->append(1)) continue;
      started_.erase(rows.sequence);
      ended_.push_back(scheduler_->finish(*rows.sequence));
    }
    return started;
  }

  Scheduler& scheduler() { return *scheduler_; }
  int64_t work(const std::string& client) { return work_[client]; }  // rows computed
  int64_t num_waiting(const std::string& client) { return num_waiting_[client]; }

 private:
  std::unique_ptr<Scheduler> scheduler_;
  base::FakeClock clock_;
  std::set<const Sequence*> started_;
  std::vector<std::unique_ptr<Sequence>> ended_;  // the tests name sequences by their address
  std::map<std::string, int64_t> work_;
  std::map<std::string, int64_t> num_waiting_;
  int32_t next_token_ = 100;  // every prompt is its own
};

SchedulerOptions options_of(int32_t max_num_seqs) {
  return {.num_blocks = 4000,
          .block_size = 4,
          .max_model_len = 400,
          .max_num_seqs = max_num_seqs,
          .max_num_batched_tokens = std::max(64, max_num_seqs),
          .max_waiting_seqs = 4096};
}

// However many requests the others have queued, a client that comes with one is overtaken by no
// more than one request of each of them.
TEST(Fairness, AThousandQueuedRequestsDoNotDelayAnotherClientsOne) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    std::mt19937_64 random(seed);
    const auto draw = [&](int from, int to) {
      return from + static_cast<int>(random() % static_cast<uint64_t>(to - from + 1));
    };
    Crowd crowd(options_of(draw(1, 16)));
    const int num_floods = draw(1, 3);
    for (int i = 0; i < 1000; ++i) {
      crowd.add("flood" + std::to_string(draw(1, num_floods)), draw(1, 60), draw(1, 40));
    }
    for (int i = draw(0, 200); i > 0; --i) crowd.step();
    const Sequence* const one = crowd.add("one", draw(1, 200), 4);
    int num_overtaking = 0;
    bool has_started = false;
    for (int steps = 0; !has_started && steps < 2000; ++steps) {
      for (const Sequence* started : crowd.step()) {
        has_started = has_started || started == one;
        num_overtaking += has_started ? 0 : 1;
      }
    }
    EXPECT_TRUE(has_started) << "seed " << seed;
    EXPECT_LE(num_overtaking, num_floods) << "seed " << seed;
  }
}

TEST(Fairness, OneClientIsServedInOrderOfArrival) {
  Crowd crowd(options_of(3));
  std::mt19937_64 random(1);
  std::vector<const Sequence*> added;
  std::vector<const Sequence*> started;
  for (int i = 0; i < 300; ++i) {
    added.push_back(
        crowd.add("", 1 + static_cast<int>(random() % 90), 1 + static_cast<int>(random() % 30)));
    if (random() % 2 == 0) {
      for (const Sequence* one : crowd.step()) started.push_back(one);
    }
  }
  ASSERT_GT(started.size(), 5u);
  added.resize(started.size());
  EXPECT_EQ(started, added);
}

TEST(Fairness, AClientsOwnRequestsStayInOrderOfArrival) {
  Crowd crowd(options_of(2));
  std::mt19937_64 random(2);
  std::map<std::string, std::vector<const Sequence*>> added;
  std::map<std::string, std::vector<const Sequence*>> started;
  for (int i = 0; i < 400; ++i) {
    const std::string client(1, static_cast<char>('a' + random() % 3));
    added[client].push_back(crowd.add(client, 1 + static_cast<int>(random() % 50),
                                      1 + static_cast<int>(random() % 30)));
    for (const Sequence* one : crowd.step()) started[one->spec().client].push_back(one);
  }
  for (auto& [client, sequences] : started) {
    ASSERT_GT(sequences.size(), 2u);
    added[client].resize(sequences.size());
    EXPECT_EQ(sequences, added[client]) << client;
  }
}

// Work is what is shared, not requests: who asks for long ones gets fewer.
TEST(Fairness, ClientsThatAlwaysWaitGetEqualWork) {
  Crowd crowd(options_of(4));
  const std::map<std::string, std::pair<int, int>> shapes{
      {"short", {4, 4}}, {"prompts", {120, 4}}, {"answers", {4, 200}}};
  for (int steps = 0; steps < 20'000; ++steps) {
    for (const auto& [client, shape] : shapes) {
      while (crowd.num_waiting(client) < 20) crowd.add(client, shape.first, shape.second);
    }
    crowd.step();
  }
  const int64_t work = crowd.work("short") + crowd.work("prompts") + crowd.work("answers");
  for (const auto& [client, shape] : shapes) {
    EXPECT_GT(crowd.work(client) * 10, work * 3) << client;  // of a third
    EXPECT_LT(crowd.work(client) * 10, work * 4) << client;
  }
}

// A limit that is not used up is not paid for: two clients with the same answers get the same,
// although one leaves max_tokens to its default.
TEST(FairOrder, WhatWasNotTakenIsGivenBack) {
  FairOrder order;
  const int64_t modest = FairOrder::charge(10, 20);
  const int64_t careless = FairOrder::charge(10, 100'000);
  EXPECT_EQ(modest, 30);
  EXPECT_EQ(careless, 10 + FairOrder::kAssumedTokens);
  uint64_t modest_turn = 0;
  uint64_t careless_turn = 0;
  for (int i = 0; i < 100; ++i) {
    modest_turn = order.next_turn("modest", 1, modest);
    careless_turn = order.next_turn("careless", 1, careless);
    order.settle("modest", modest, 30);
    order.settle("careless", careless, 30);
  }
  EXPECT_EQ(modest_turn, 99u * 30);
  EXPECT_EQ(careless_turn, modest_turn);
}

TEST(FairOrder, LongAnswersArePaidForLater) {
  FairOrder order;
  const int64_t charged = FairOrder::charge(10, 5000);
  order.next_turn("a", 1, charged);
  order.settle("a", charged, 5010);
  EXPECT_EQ(order.next_turn("a", 1, charged), 5010u);
  order.next_turn("b", 1, 5);
  EXPECT_EQ(order.next_turn("b", 1, 5), 5u);
}

TEST(FairOrder, WhoComesBackDoesNotGoBeforeTheTurnThatIsOn) {
  FairOrder order;
  for (int i = 0; i < 10; ++i) order.started(order.next_turn("busy", 1, 100));
  EXPECT_EQ(order.next_turn("idle", 1, 100), 900u);
  order.clear();
  EXPECT_EQ(order.next_turn("busy", 1, 100), 0u);
}

}  // namespace
}  // namespace sluice::scheduler
