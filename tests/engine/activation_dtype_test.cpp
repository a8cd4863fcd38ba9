// int8 and fp8 weights beside activations of the model's dtype, from end to end.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sluice/runtime.h"
#include "tests/device/test_device.h"
#include "tests/engine/scored_answer.h"

namespace sluice::engine {
namespace {

Result<std::unique_ptr<Service>> load(const std::string& dtype, const std::string& activation_dtype,
                                      const std::string& device = test_device::name()) {
  RuntimeOptions options;
  options.models = {{"model", std::filesystem::path(SLUICE_SOURCE_DIR) /
                                  "tests/golden/variants/llama_gqa_tied_bf16"}};
  options.device = device;
  options.num_threads = 1;
  options.kv_cache_bytes = int64_t{4} << 20;
  options.dtype = dtype;
  options.activation_dtype = activation_dtype;
  return create_service(std::move(options));
}

ScoredAnswer answer(Service& service) {
  std::vector<int64_t> prompt;
  for (int64_t i = 0; i < 40; ++i) prompt.push_back((i * 37 + 11) % 90);
  return score(service, std::move(prompt), 1);
}

// Root mean square.
double difference(const ScoredAnswer& a, const ScoredAnswer& b) {
  double sum = 0;
  for (size_t i = 0; i < a.prompt_logprobs.size(); ++i) {
    sum += std::pow(a.prompt_logprobs[i] - b.prompt_logprobs[i], 2);
  }
  return std::sqrt(sum / static_cast<double>(a.prompt_logprobs.size()));
}

TEST(ActivationDtype, KeptActivationsAreNearerToThePlainModel) {
  if (test_device::name() == "cpu") GTEST_SKIP() << "it needs a GPU";
  const auto plain = load("", "auto");
  ASSERT_TRUE(plain.has_value()) << plain.error().message;
  const ScoredAnswer expected = answer(**plain);
  for (const std::string dtype : {"int8", "fp8"}) {
    const auto rounded = load(dtype, dtype);
    const auto kept = load(dtype, "auto");
    ASSERT_TRUE(rounded.has_value()) << rounded.error().message;
    ASSERT_TRUE(kept.has_value()) << kept.error().message;
    const ScoredAnswer with_bytes = answer(**rounded);
    const ScoredAnswer with_bf16 = answer(**kept);
    EXPECT_EQ(with_bytes.profile, expected.profile);
    EXPECT_EQ(with_bf16.profile, expected.profile + "+a16");
    RecordProperty(dtype + "_rounded", std::to_string(difference(with_bytes, expected)));
    RecordProperty(dtype + "_kept", std::to_string(difference(with_bf16, expected)));
    EXPECT_GT(difference(with_bf16, expected), 0);
    EXPECT_LT(difference(with_bf16, expected), difference(with_bytes, expected));
  }
}

// Nobody asked: what the profile says is what ran.
TEST(ActivationDtype, GoesByTheWeightsAndTheDevice) {
  const auto int8 = load("int8", "");
  ASSERT_TRUE(int8.has_value()) << int8.error().message;
  EXPECT_EQ(answer(**int8).profile.find("+a16"), std::string::npos);
  if (!test_device::is_slow()) GTEST_SKIP() << "it needs devices of the tests' own";
  const auto fp8 = load("fp8", "");
  ASSERT_TRUE(fp8.has_value()) << fp8.error().message;
  EXPECT_EQ((*fp8)->models()[0].profile, "cuda-host/1");
  const auto on_old = load("fp8", "", test_device::kOldDevice);
  ASSERT_TRUE(on_old.has_value()) << on_old.error().message;
  EXPECT_EQ((*on_old)->models()[0].profile, "cuda-sm80/1+a16");
  const ScoredAnswer kept = answer(**load("fp8", "auto"));
  EXPECT_EQ(answer(**on_old).prompt_logprobs, kept.prompt_logprobs);
  EXPECT_NE(answer(**fp8).prompt_logprobs, kept.prompt_logprobs);
}

void expect_refused(const std::string& dtype, const std::string& activation_dtype,
                    const std::string& why, const std::string& device = test_device::name()) {
  const auto service = load(dtype, activation_dtype, device);
  ASSERT_FALSE(service.has_value());
  EXPECT_EQ(service.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(service.error().message.find(why), std::string::npos) << service.error().message;
}

TEST(ActivationDtype, RefusesWhatHasNoKernels) {
  expect_refused("int4", "auto", "activation dtype is \"auto\", but the weights are int4");
  expect_refused("int8", "bf16", "activation dtype is \"bf16\", supported are int8, fp8 and auto");
  expect_refused("int8", "fp8", "activation dtype is \"fp8\", but the weights are int8");
  if (test_device::is_slow()) {
    expect_refused("fp8", "fp8", "which needs compute capability 8.9; take auto",
                   test_device::kOldDevice);
  }
  if (test_device::name() == "cpu") {
    expect_refused("int8", "auto", "activation dtype is \"auto\", which needs a GPU");
    for (const char* name : {"", "fp8", "auto"}) {
      expect_refused("fp8", name, "the weights are fp8, which needs a GPU");
    }
    for (const char* name : {"int8", "fp8", "auto"}) {
      EXPECT_TRUE(load("", name).has_value()) << name << ": plain weights keep their activations";
    }
  } else {
    expect_refused("fp8", "int8", "activation dtype is \"int8\", but the weights are fp8");
  }
}

}  // namespace
}  // namespace sluice::engine
