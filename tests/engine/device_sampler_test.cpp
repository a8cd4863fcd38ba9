#include "engine/device_sampler.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "engine/devices.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/device/test_device.h"

// Two steps under way, the second on what the first one draws, against the CPU's sampler, which
// knows all of it.
namespace sluice::engine {
namespace {

using kernels::cuda::CudaDevice;

constexpr int32_t kVocabulary = 300;
constexpr int kRows = 9;

class DeviceSamplerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (test_device::name() == "cpu") GTEST_SKIP() << "of a GPU";
    const auto device = choose_device(test_device::name(), [](const std::string&) {});
    if (!device) GTEST_SKIP() << device.error().message;
    device_ = dynamic_cast<CudaDevice*>(*device);
    ASSERT_NE(device_, nullptr);
    sampler_ = std::make_unique<DeviceSampler>(*device_);
    for (int i = 0; i < kRows; ++i) {
      sampling::SamplingParams& params = params_.emplace_back();
      params.temperature = i % 3 == 0 ? 0.0f : 0.9f;
      params.repetition_penalty = i % 2 == 0 ? 1.0f : 1.4f;
      params.frequency_penalty = i % 4 == 0 ? 0.0f : 2.0f;
      params.presence_penalty = i % 5 == 0 ? 3.0f : 0.0f;
      params.seed = static_cast<uint64_t>(i);
      const std::vector<int32_t> prompt{i, 2 * i, 100 + i};
      counts_.emplace_back().add_prompt(prompt);
    }
  }

  // Few ids are likely, so that penalties decide.
  std::vector<float> logits() {
    std::vector<float> made(kVocabulary * kRows);
    for (float& x : made) x = static_cast<float>(engine_() % 1000) * 0.001f;
    for (size_t row = 0; row < kRows; ++row) {
      for (size_t id = 0; id < 6; ++id) made[row * kVocabulary + 40 * id] += 4;
    }
    return made;
  }
  at::Tensor upload(const std::vector<float>& values) {
    const at::Tensor tensor = device_->allocate({kRows, kVocabulary}, at::kFloat);
    device_->copy_to(tensor, values.data(), values.size() * sizeof(float));
    device_->synchronize();
    return tensor;
  }
  std::vector<sampling::RowTask> tasks(uint32_t position) {
    std::vector<sampling::RowTask> made;
    for (size_t i = 0; i < kRows; ++i) {
      sampling::RowTask& task = made.emplace_back();
      task.params = &params_[i];
      task.counts = &counts_[i];
      task.position = position;
      task.num_logprobs = i % 4 == 1 ? 3 : -1;
    }
    return made;
  }
  // The CPU's tokens, which are counted.
  std::vector<int32_t> draw_on_cpu(std::vector<float> logits, uint32_t position) {
    auto all = tasks(position);
    for (size_t i = 0; i < kRows; ++i) all[i].logits = logits.data() + i * kVocabulary;
    std::vector<sampling::RowResult> results(kRows);
    sampling::sample_rows(all, kVocabulary, results);
    std::vector<int32_t> drawn;
    for (size_t i = 0; i < kRows; ++i) {
      drawn.push_back(results[i].token_id);
      counts_[i].add_generated(results[i].token_id);
    }
    return drawn;
  }
  std::vector<int32_t> finish() {
    std::vector<int32_t> drawn;
    for (const sampling::RowResult& result : sampler_->finish()) {
      EXPECT_EQ(result.fault, sampling::RowFault::kNone);
      drawn.push_back(result.token_id);
    }
    return drawn;
  }

  CudaDevice* device_ = nullptr;
  std::unique_ptr<DeviceSampler> sampler_;
  std::vector<sampling::SamplingParams> params_;
  std::vector<sampling::TokenCounts> counts_;
  std::mt19937 engine_{11};
};

TEST_F(DeviceSamplerTest, EachStepCountsWhatTheOneBeforeHasDrawn) {
  std::vector<std::vector<float>> numbers;
  std::vector<at::Tensor> steps;
  for (int step = 0; step < 12; ++step) {
    numbers.push_back(logits());
    steps.push_back(upload(numbers.back()));
  }
  const std::vector<int32_t> known(kRows, 0);
  std::vector<int32_t> being_drawn;
  for (int32_t row = 0; row < kRows; ++row) being_drawn.push_back(-1 - row);
  sampler_->prepare(tasks(0), known);
  sampler_->start(steps[0]);
  for (uint32_t step = 1; step < 12; ++step) {
    const at::Tensor tokens = device_->allocate({kRows}, at::kInt);
    device_->copy_to(tokens, being_drawn.data(), tokens.nbytes());
    sampler_->feed(tokens);
    sampler_->prepare(tasks(step), being_drawn);
    sampler_->start(steps[step]);
    const std::vector<int32_t> drawn = draw_on_cpu(numbers[step - 1], step - 1);
    EXPECT_EQ(finish(), drawn) << "step " << step - 1;
    const at::Tensor fed = device_->download(tokens);
    EXPECT_EQ(0, std::memcmp(fed.const_data_ptr(), drawn.data(), fed.nbytes()));
  }
  EXPECT_EQ(finish(), draw_on_cpu(numbers[11], 11));
}

}  // namespace
}  // namespace sluice::engine
