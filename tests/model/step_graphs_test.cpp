#include "model/step_graphs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "kernels/operators.h"
#include "kernels/output_pool.h"
#include "support.h"
#include "tests/device/test_device.h"

namespace sluice::model {
namespace {

using kernels::testing::device;
using kernels::testing::random_tensor;
using kernels::testing::same_bits;

StepShape decode_of(int64_t num_sequences, int64_t max_blocks = 3) {
  return {.num_tokens = num_sequences,
          .num_sequences = num_sequences,
          .max_blocks = max_blocks,
          .num_logits = num_sequences};
}

class StepGraphsTest : public kernels::testing::KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (IsSkipped()) return;
    if (!device().can_record()) GTEST_SKIP() << "the CPU records nothing";
    outputs_ = std::make_unique<kernels::OutputPool>(device());
    graphs_ = std::make_unique<StepGraphs>(device());
    x_ = device().upload(first_);
    weight_ = device().upload(random_tensor({64}, 2, at::kFloat));
  }

  // A step of a program that has its memory already, as one has from its second step on.
  at::Tensor step(const StepShape& shape) {
    return graphs_->run(shape, [this] {
      ++num_calls_;
      const kernels::OutputScope scope(*outputs_);
      return kernels::rms_norm(x_, weight_, 1e-5);
    });
  }
  void put(const at::Tensor& x) {
    device().copy_to(x_, x.const_data_ptr(), x.nbytes());
    device().synchronize();
  }
  at::Tensor expected(const at::Tensor& x) {
    return device().download(kernels::rms_norm(device().upload(x), weight_, 1e-5)).clone();
  }
  // Steps until one is played.
  void learn() {
    for (int i = 0; i < 3; ++i) step(shape_);
    ASSERT_EQ(graphs_->num_played(), 2);
    ASSERT_EQ(num_calls_, 2);
    ASSERT_EQ(graphs_->why_not_recorded(), "");
  }

  at::Tensor first_ = random_tensor({8, 64}, 1, at::kFloat);
  at::Tensor second_ = random_tensor({8, 64}, 3, at::kFloat);
  std::unique_ptr<StepGraphs> graphs_;
  std::unique_ptr<kernels::OutputPool> outputs_;
  StepShape shape_ = decode_of(8, 16);
  at::Tensor x_;
  at::Tensor weight_;
  int num_calls_ = 0;
};

TEST_F(StepGraphsTest, PlaysFromTheThirdStepOnWhateverTheNumbersAre) {
  const at::Tensor of_first = expected(first_);
  const at::Tensor of_second = expected(second_);
  put(first_);
  EXPECT_TRUE(same_bits(device().download(step(shape_)), of_first));
  EXPECT_EQ(graphs_->num_played(), 0);
  put(second_);
  EXPECT_TRUE(same_bits(device().download(step(shape_)), of_second)) << "the recorded one";
  EXPECT_EQ(num_calls_, 2);
  put(first_);
  EXPECT_TRUE(same_bits(device().download(step(shape_)), of_first));
  put(second_);
  EXPECT_TRUE(same_bits(device().download(step(shape_)), of_second));
  EXPECT_EQ(num_calls_, 2);
  EXPECT_EQ(graphs_->num_played(), 3);
}

TEST_F(StepGraphsTest, BeginsAnewWhereMemoryHasMoved) {
  learn();
  device().allocate({1}, at::kFloat);  // and goes
  step(shape_);
  EXPECT_EQ(num_calls_, 3);
  step(shape_);
  EXPECT_EQ(num_calls_, 4);
  step(shape_);
  EXPECT_EQ(num_calls_, 4);
}

TEST_F(StepGraphsTest, ShapesHaveTheirOwn) {
  learn();
  step(decode_of(16, 16));
  EXPECT_EQ(num_calls_, 3);
  step(decode_of(8, 32));
  EXPECT_EQ(num_calls_, 4);
  step(shape_);
  EXPECT_EQ(num_calls_, 4);
}

TEST_F(StepGraphsTest, MoreShapesThanAreKeptGiveTheOldestUp) {
  learn();
  for (int64_t blocks = 32; blocks < int64_t{1} << 60; blocks *= 2) step(decode_of(8, blocks));
  for (int64_t blocks = 32; blocks < int64_t{1} << 60; blocks *= 2) step(decode_of(16, blocks));
  const int calls = num_calls_;
  step(shape_);
  EXPECT_EQ(num_calls_, calls + 1);
}

TEST_F(StepGraphsTest, OnlyDecodesAreRecorded) {
  const StepShape prefill{.num_tokens = 9, .num_sequences = 2, .max_blocks = 16, .num_logits = 2};
  for (int i = 0; i < 4; ++i) step(prefill);
  EXPECT_EQ(num_calls_, 4);
  EXPECT_EQ(graphs_->num_played(), 0);
}

// It runs as it is, each time.
TEST_F(StepGraphsTest, AProgramThatWaitsIsNotRecorded) {
  const at::Tensor of_first = expected(first_);
  for (int i = 0; i < 4; ++i) {
    const at::Tensor result = graphs_->run(shape_, [this] {
      ++num_calls_;
      device().synchronize();
      const kernels::OutputScope scope(*outputs_);
      return kernels::rms_norm(x_, weight_, 1e-5);
    });
    EXPECT_TRUE(same_bits(device().download(result), of_first));
  }
  EXPECT_EQ(num_calls_, 5) << "tried once";
  EXPECT_EQ(graphs_->num_played(), 0);
  EXPECT_NE(graphs_->why_not_recorded(), "");
}

// What an interpreter throws is of no kind of LibTorch's.
TEST_F(StepGraphsTest, AProgramThatThrowsWhileItIsRecordedRunsAsItIs) {
  const at::Tensor of_first = expected(first_);
  int num_calls = 0;
  for (int i = 0; i < 4; ++i) {
    const at::Tensor result = graphs_->run(shape_, [&] {
      if (++num_calls == 2) throw std::runtime_error("as it should");
      const kernels::OutputScope scope(*outputs_);
      return kernels::rms_norm(x_, weight_, 1e-5);
    });
    EXPECT_TRUE(same_bits(device().download(result), of_first));
  }
  EXPECT_EQ(num_calls, 5) << "tried once";
  EXPECT_EQ(graphs_->num_played(), 0);
  EXPECT_EQ(graphs_->why_not_recorded(), "a call failed");
}

TEST_F(StepGraphsTest, WhatCannotBePlayedRunsAsItIs) {
  if (!test_device::is_slow()) GTEST_SKIP() << "a device that plays everything";
  const at::Tensor of_first = expected(first_);
  learn();
  test_device::set_unplayable(true);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(same_bits(device().download(step(shape_)), of_first));
  }
  test_device::set_unplayable(false);
  EXPECT_EQ(num_calls_, 5);
  EXPECT_EQ(graphs_->num_played(), 2);
  EXPECT_NE(graphs_->why_not_recorded(), "");
}

TEST_F(StepGraphsTest, AnErrorIsTheCallersAndTheNextStepWorks) {
  learn();
  const StepShape other = decode_of(2, 16);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THROW(graphs_->run(other, [&]() -> at::Tensor { TORCH_CHECK(false, "as it should"); }),
                 c10::Error);
  }
  const int64_t played = graphs_->num_played();
  step(shape_);
  EXPECT_EQ(graphs_->num_played(), played + 1);
}

TEST_F(StepGraphsTest, ShapesAreFewAndLittleLarger) {
  EXPECT_EQ(StepGraphs::batch_sizes(64),
            (std::vector<int64_t>{1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64}));
  for (int64_t count = 1; count <= 1024; ++count) {
    const StepShape shape = graphs_->shape_for(decode_of(count));
    EXPECT_GE(shape.num_sequences, count);
    EXPECT_EQ(shape, decode_of(shape.num_sequences, 16));
    EXPECT_LE(shape.num_sequences, count <= 8 ? 2 * count : count + std::max(count / 8, 7L));
    EXPECT_EQ(graphs_->shape_for(shape), shape);
  }
  EXPECT_EQ(graphs_->shape_for(decode_of(3, 17)).max_blocks, 32);
  EXPECT_EQ(graphs_->shape_for(decode_of(3, 4096)).max_blocks, 4096);
}

}  // namespace
}  // namespace sluice::model
