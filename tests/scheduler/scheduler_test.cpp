#include "scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/base/fake_clock.h"

namespace sluice::scheduler {
namespace {

using sequence::Sequence;
using sequence::SequenceSpec;
using sequence::SequenceState;
using sequence::Signals;
using sequence::StopSignal;
using std::chrono::seconds;

// A scheduler whose model draws the same token for ever.
class SchedulerTest : public testing::Test {
 protected:
  SchedulerOptions options_{.num_blocks = 16,
                            .block_size = 4,
                            .max_model_len = 48,
                            .max_num_seqs = 4,
                            .max_num_batched_tokens = 16,
                            .watermark_blocks = 0,
                            .stall_time = seconds(10)};
  std::unique_ptr<Scheduler> scheduler_;
  base::FakeClock clock_;

  void SetUp() override { make(); }
  void make() { scheduler_ = std::move(*Scheduler::create(options_)); }

  static SequenceSpec spec(int32_t num_prompt_tokens, int32_t max_tokens, int32_t first_token = 0) {
    SequenceSpec spec;
    for (int32_t i = 0; i < num_prompt_tokens; ++i) spec.prompt.push_back(first_token + i);
    spec.stop.max_tokens = max_tokens;
    spec.stop.max_length = 48;
    spec.max_undelivered = 1000;
    return spec;
  }

  std::vector<Sequence*> add(SequenceSpec spec, int32_t n = 1) {
    std::vector<std::unique_ptr<Sequence>> completions;
    std::vector<Sequence*> added;
    for (int32_t i = 0; i < n; ++i) {
      spec.index = i;
      completions.push_back(std::make_unique<Sequence>(spec, std::make_shared<Signals>()));
      added.push_back(completions.back().get());
    }
    const auto result = scheduler_->add(completions);
    EXPECT_TRUE(result.has_value()) << result.error().message;
    return added;
  }

  // "a:3 b:1*": a runs three tokens, b one and draws.
  std::string step(const std::vector<std::pair<std::string, Sequence*>>& names) {
    const StepSchedule& schedule = scheduler_->schedule(clock_.now());
    std::string text;
    for (const ScheduledRows& rows : schedule.rows) {
      for (const auto& [name, sequence] : names) {
        if (sequence != rows.sequence) continue;
        text += (text.empty() ? "" : " ") + name + ":" + std::to_string(rows.num_tokens);
        if (rows.draws_token) text += "*";
      }
    }
    scheduler_->commit();
    for (const ScheduledRows& rows : schedule.rows) {
      if (rows.draws_token && rows.sequence->append(1000)) {
        finished_.push_back(scheduler_->finish(*rows.sequence));
      }
    }
    return text;
  }
  std::vector<std::unique_ptr<Sequence>> finished_;

  Error refusal(SequenceSpec spec, int32_t n = 1) {
    std::vector<std::unique_ptr<Sequence>> completions;
    for (int32_t i = 0; i < n; ++i) {
      completions.push_back(std::make_unique<Sequence>(spec, std::make_shared<Signals>()));
    }
    const auto result = scheduler_->add(completions);
    EXPECT_EQ(std::ssize(completions), n) << "a refused request was taken";
    return result ? Error{} : result.error();
  }
};

TEST_F(SchedulerTest, RefusesOptionsOutOfRange) {
  const auto error_of = [&](auto change) {
    SchedulerOptions options = options_;
    change(options);
    const auto made = Scheduler::create(options);
    return made ? std::string() : made.error().message;
  };
  EXPECT_EQ(error_of([](auto& o) { o.num_blocks = 0; }), "num_blocks is 0, must be >= 1");
  EXPECT_EQ(error_of([](auto& o) { o.block_size = 0; }), "block_size is 0, must be >= 1");
  EXPECT_EQ(error_of([](auto& o) { o.max_model_len = 1; }), "max_model_len is 1, must be >= 2");
  EXPECT_EQ(error_of([](auto& o) { o.max_num_seqs = 0; }), "max_num_seqs is 0, must be >= 1");
  EXPECT_EQ(error_of([](auto& o) { o.max_num_batched_tokens = 3; }),
            "max_num_batched_tokens is 3, must be >= max_num_seqs (4)");
  EXPECT_EQ(error_of([](auto& o) { o.max_chunk_tokens = -1; }),
            "max_chunk_tokens is -1, must be >= 0");
}

TEST_F(SchedulerTest, DecodesWithoutMemoryRunFewerAndMoreAgain) {
  options_.num_blocks = 200;
  options_.max_model_len = 400;
  make();
  const auto request = [](int32_t first) {
    SequenceSpec made = spec(2, 300, first);
    made.stop.max_length = 400;
    return made;
  };
  std::vector<std::pair<std::string, Sequence*>> names;
  for (const char* name : {"a", "b", "c", "d"}) {
    names.emplace_back(name, add(request(10 * static_cast<int32_t>(names.size())))[0]);
  }
  EXPECT_EQ(step(names), "a:2* b:2* c:2* d:2*");
  scheduler_->schedule(clock_.now());
  EXPECT_TRUE(scheduler_->shrink());
  EXPECT_EQ(step(names), "a:1* b:1*");
  EXPECT_EQ(names[3].second->progress().state, SequenceState::kWaiting);
  scheduler_->schedule(clock_.now());
  EXPECT_TRUE(scheduler_->shrink());
  for (int i = 0; i < Scheduler::kStepsToGrow; ++i) EXPECT_EQ(step(names), "a:1*");
  EXPECT_EQ(scheduler_->counts().running, 1);
  step(names);
  for (int i = 1; i < Scheduler::kStepsToGrow; ++i) EXPECT_EQ(step(names), "a:1* b:1*");
  EXPECT_EQ(scheduler_->counts().running, 2);
  step(names);
  EXPECT_EQ(step(names), "a:1* b:1* c:1* d:1*");
  for (const auto& [name, sequence] : names) {
    (void)sequence->signals().stop.exchange(StopSignal::kCancelled);
  }
  step(names);
  // Alone, and as small as it gets: there is nothing to try.
  add(request(3));
  scheduler_->schedule(clock_.now());
  EXPECT_FALSE(scheduler_->shrink());
}

TEST_F(SchedulerTest, PromptsWithoutMemoryGoInSmallerChunks) {
  options_.num_blocks = 200;
  options_.max_model_len = 400;
  options_.max_num_batched_tokens = 200;
  make();
  SequenceSpec made = spec(180, 3);
  made.stop.max_length = 400;
  Sequence* a = add(made)[0];
  const std::vector<std::pair<std::string, Sequence*>> names{{"a", a}};
  for (const int32_t tokens : {180, 90, 45}) {
    EXPECT_EQ(scheduler_->schedule(clock_.now()).num_tokens, tokens);
    EXPECT_TRUE(scheduler_->shrink());
  }
  EXPECT_EQ(scheduler_->schedule(clock_.now()).num_tokens, Scheduler::kFewestStepTokens);
  EXPECT_FALSE(scheduler_->shrink());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(step(names), "a:32");
  EXPECT_EQ(step(names), "a:20*");
}

TEST_F(SchedulerTest, RefusesWhatCanNeverFit) {
  EXPECT_EQ(refusal(spec(48, 1)).message,
            "prompt has 48 tokens, limit is 47 (--max-model-len, less one to generate)");
  options_.num_blocks = 2;
  make();
  EXPECT_EQ(refusal(spec(6, 4)).message,
            "request needs a KV cache of 9 tokens, there is room for 8: lower max_tokens or raise "
            "the KV cache size");
  add(spec(6, 3));  // the last token is never computed
  auto too_long = spec(1, 1);
  too_long.stop.max_length = 49;
  EXPECT_EQ(refusal(too_long).code, ErrorCode::kInvalidArgument);
}

TEST_F(SchedulerTest, RefusesBeyondTheQueueAllOrNothing) {
  options_.max_waiting_seqs = 3;
  make();
  add(spec(1, 1), 2);
  EXPECT_EQ(refusal(spec(1, 1), 2).code, ErrorCode::kResourceExhausted);
  add(spec(1, 1));
  EXPECT_EQ(scheduler_->counts().waiting, 3);
}

TEST_F(SchedulerTest, ChunksPromptsAndDecodesFirst) {
  Sequence* a = add(spec(3, 10))[0];
  EXPECT_EQ(step({{"a", a}}), "a:3*");
  Sequence* b = add(spec(40, 10, 100))[0];
  EXPECT_EQ(step({{"a", a}, {"b", b}}), "a:1* b:15");
  EXPECT_EQ(step({{"a", a}, {"b", b}}), "a:1* b:15");
  Sequence* c = add(spec(20, 10, 200))[0];
  EXPECT_EQ(step({{"a", a}, {"b", b}, {"c", c}}), "a:1* b:10*");  // no blocks for all of c
  EXPECT_EQ(c->progress().state, SequenceState::kWaiting);
}

TEST_F(SchedulerTest, ChunkLimit) {
  options_.max_chunk_tokens = 5;
  make();
  Sequence* a = add(spec(11, 10))[0];
  Sequence* b = add(spec(3, 10, 100))[0];
  EXPECT_EQ(step({{"a", a}, {"b", b}}), "a:5 b:3*");
  EXPECT_EQ(step({{"a", a}, {"b", b}}), "b:1* a:5");
  EXPECT_EQ(step({{"a", a}, {"b", b}}), "a:1* b:1*") << "a prompt's last token is like a decode";
}

TEST_F(SchedulerTest, NobodyOvertakesTheFirstThatDoesNotFit) {
  options_.num_blocks = 6;
  make();
  Sequence* a = add(spec(16, 2))[0];
  Sequence* b = add(spec(12, 2, 100))[0];
  Sequence* c = add(spec(1, 2, 200))[0];
  EXPECT_EQ(step({{"a", a}, {"b", b}, {"c", c}}), "a:16*");
  EXPECT_EQ(step({{"a", a}, {"b", b}, {"c", c}}), "a:1*");
  EXPECT_EQ(step({{"b", b}, {"c", c}}), "b:12* c:1*");
}

TEST_F(SchedulerTest, PreemptsTheYoungestAndComputesItAgainWithoutDrawingTwice) {
  options_.num_blocks = 4;
  make();
  Sequence* a = add(spec(7, 9))[0];
  Sequence* b = add(spec(7, 9, 100))[0];
  EXPECT_EQ(step({{"a", a}, {"b", b}}), "a:7* b:7*");
  EXPECT_EQ(step({{"a", a}, {"b", b}}), "a:1* b:1*");
  EXPECT_EQ(step({{"a", a}, {"b", b}}), "a:1*");
  EXPECT_EQ(b->progress().state, SequenceState::kWaiting);
  EXPECT_EQ(b->progress().num_preemptions, 1);
  EXPECT_EQ(b->num_generated(), 2);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(step({{"a", a}, {"b", b}}), "a:1*");
  EXPECT_EQ(step({{"b", b}}), "b:9*") << "its prompt and both drawn tokens";
  EXPECT_EQ(b->num_generated(), 3);
  EXPECT_EQ(scheduler_->counts().preemptions, 1);
}

TEST_F(SchedulerTest, WatermarkStaysFreeAtAdmission) {
  options_.num_blocks = 6;
  options_.watermark_blocks = 2;
  make();
  Sequence* a = add(spec(8, 8))[0];
  Sequence* b = add(spec(8, 8, 100))[0];
  Sequence* c = add(spec(1, 8, 200))[0];
  EXPECT_EQ(step({{"a", a}, {"b", b}, {"c", c}}), "a:8* b:8*");
  EXPECT_EQ(step({{"a", a}, {"b", b}, {"c", c}}), "a:1* b:1*") << "into the watermark";
}

TEST_F(SchedulerTest, CompletionsShareTheirPromptsFullBlocks) {
  options_.max_num_batched_tokens = 7;
  make();
  const auto group = add(spec(10, 5), 3);
  const auto names = [&] {
    return std::vector<std::pair<std::string, Sequence*>>{
        {"a", group[0]}, {"b", group[1]}, {"c", group[2]}};
  };
  EXPECT_EQ(step(names()), "a:7");
  EXPECT_EQ(step(names()), "a:3*");
  EXPECT_EQ(step(names()), "a:1* b:2* c:2*");
  EXPECT_EQ(scheduler_->counts().blocks_used, 2 + 3);
  EXPECT_EQ(group[0]->progress().num_cached, 0);
  EXPECT_EQ(group[1]->progress().num_cached, 8);
  EXPECT_EQ(group[1]->progress().block_table[1], group[0]->progress().block_table[1]);
  EXPECT_NE(group[1]->progress().block_table[2], group[0]->progress().block_table[2]);
}

TEST_F(SchedulerTest, AnotherCompletionLeadsWhenTheFirstEnds) {
  options_.max_num_batched_tokens = 4;
  make();
  const auto group = add(spec(10, 5), 3);
  EXPECT_EQ(step({{"a", group[0]}, {"b", group[1]}}), "a:4");
  group[0]->signals().request_stop(StopSignal::kCancelled);
  EXPECT_EQ(step({{"b", group[1]}, {"c", group[2]}}), "b:4");
  EXPECT_EQ(step({{"b", group[1]}, {"c", group[2]}}), "b:4");
  EXPECT_EQ(step({{"b", group[1]}, {"c", group[2]}}), "b:2* c:2*");
}

TEST_F(SchedulerTest, PrefixesOutliveTheirSequencesIfKept) {
  options_.keep_prefixes = true;
  make();
  Sequence* a = add(spec(9, 1))[0];
  EXPECT_EQ(step({{"a", a}}), "a:9*");
  EXPECT_EQ(scheduler_->counts().blocks_used, 0);
  Sequence* b = add(spec(9, 1))[0];
  EXPECT_EQ(step({{"b", b}}), "b:1*");
  EXPECT_EQ(b->progress().num_cached, 8);
  EXPECT_EQ(scheduler_->counts().prefix_hit_tokens, 8);
}

TEST_F(SchedulerTest, CancelDeadlineAndTextStopAreSeenBeforeTheStep) {
  Sequence* a = add(spec(3, 9))[0];
  auto with_deadline = spec(3, 9, 100);
  with_deadline.deadline = clock_.now() + seconds(5);
  Sequence* b = add(with_deadline)[0];
  Sequence* c = add(spec(3, 9, 200))[0];
  Sequence* d = add(spec(3, 9, 300))[0];
  EXPECT_EQ(step({{"a", a}, {"b", b}, {"c", c}, {"d", d}}), "a:3* b:3* c:3* d:3*");
  EXPECT_EQ(scheduler_->next_timeout(), with_deadline.deadline);
  a->signals().request_stop(StopSignal::kCancelled);
  c->signals().request_stop(StopSignal::kTextStop);
  clock_.advance(seconds(5));
  const StepSchedule& schedule = scheduler_->schedule(clock_.now());
  ASSERT_EQ(schedule.ended.size(), 3u);
  EXPECT_EQ(schedule.ended[0].cause, EndCause::kCancelled);
  EXPECT_EQ(schedule.ended[1].cause, EndCause::kDeadline);
  EXPECT_EQ(schedule.ended[2].cause, EndCause::kTextStop);
  EXPECT_EQ(schedule.rows.size(), 1u);
  EXPECT_EQ(scheduler_->counts().blocks_used, 1);
}

TEST_F(SchedulerTest, ASlowReaderPausesItsOwnStreamAndMakesRoom) {
  options_.num_blocks = 4;
  options_.max_num_seqs = 2;
  make();
  Sequence* a = add(spec(8, 9))[0];
  a->signals().undelivered_tokens = 999;
  EXPECT_EQ(step({{"a", a}}), "a:8*");
  a->signals().undelivered_tokens = 1000;
  EXPECT_EQ(step({{"a", a}}), "");
  EXPECT_FALSE(a->progress().block_table.empty()) << "nobody needs its blocks";
  Sequence* b = add(spec(12, 2, 100))[0];
  EXPECT_EQ(step({{"a", a}, {"b", b}}), "b:12*");
  EXPECT_TRUE(a->progress().block_table.empty());
  a->signals().undelivered_tokens = 0;
  EXPECT_EQ(step({{"a", a}, {"b", b}}), "b:1*");
  EXPECT_EQ(step({{"a", a}}), "a:9*");
  EXPECT_EQ(a->num_generated(), 2);
}

TEST_F(SchedulerTest, AStalledReaderEndsItsStream) {
  Sequence* a = add(spec(8, 9))[0];
  a->signals().undelivered_tokens = 1000;
  EXPECT_EQ(step({{"a", a}}), "");
  EXPECT_EQ(scheduler_->next_timeout(), clock_.now() + seconds(10));
  clock_.advance(seconds(9));
  a->signals().undelivered_tokens = 0;
  EXPECT_EQ(step({{"a", a}}), "a:8*") << "it has read: the time begins anew";
  a->signals().undelivered_tokens = 1000;
  EXPECT_EQ(step({{"a", a}}), "");
  clock_.advance(seconds(10));
  const StepSchedule& schedule = scheduler_->schedule(clock_.now());
  ASSERT_EQ(schedule.ended.size(), 1u);
  EXPECT_EQ(schedule.ended[0].cause, EndCause::kStalled);
  EXPECT_TRUE(scheduler_->is_empty());
}

TEST_F(SchedulerTest, AnEndlessStallTimeNeverTimesOut) {
  options_.stall_time = base::Duration::max();
  make();
  Sequence* a = add(spec(8, 9))[0];
  a->signals().undelivered_tokens = 1000;
  EXPECT_EQ(step({{"a", a}}), "");
  EXPECT_EQ(scheduler_->next_timeout(), base::TimePoint::max());
}

TEST_F(SchedulerTest, PromptLogprobsGetTheirRowsWithinTheCap) {
  options_.max_prompt_logit_rows = 4;
  make();
  auto with_logprobs = spec(7, 3);
  with_logprobs.sampling.num_prompt_logprobs = 0;
  add(with_logprobs);
  std::vector<std::vector<int32_t>> seen;  // first position, end, first logits
  for (int i = 0; i < 3; ++i) {
    const auto& rows = scheduler_->schedule(clock_.now()).rows.at(0);
    seen.push_back({rows.first_position, rows.end_position(), rows.first_logits});
    scheduler_->commit();
    if (rows.draws_token) rows.sequence->append(5);
  }
  EXPECT_EQ(seen, (std::vector<std::vector<int32_t>>{{0, 4, 0}, {4, 7, 4}, {7, 8, 7}}));
}

TEST_F(SchedulerTest, AFailedStepEndsItsSequencesOnly) {
  Sequence* a = add(spec(16, 3))[0];
  Sequence* b = add(spec(2, 3, 100))[0];
  const StepSchedule& schedule = scheduler_->schedule(clock_.now());
  ASSERT_EQ(schedule.rows.size(), 1u);
  ASSERT_EQ(schedule.rows[0].sequence, a);
  EXPECT_EQ(scheduler_->finish(*a)->progress().state, SequenceState::kFinished);
  EXPECT_EQ(scheduler_->counts().blocks_used, 0);
  EXPECT_EQ(step({{"b", b}}), "b:2*");
  EXPECT_EQ(scheduler_->finish_all().size(), 1u);
  EXPECT_TRUE(scheduler_->is_empty());
}

}  // namespace
}  // namespace sluice::scheduler
