// int8 weights beside activations of the model's dtype, from end to end.
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

Result<std::unique_ptr<Service>> load(const std::string& dtype,
                                      const std::string& activation_dtype) {
  RuntimeOptions options;
  options.models = {{"model", std::filesystem::path(SLUICE_SOURCE_DIR) /
                                  "tests/golden/variants/llama_gqa_tied_bf16"}};
  options.device = test_device::name();
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
  const auto rounded = load("int8", "int8");
  const auto kept = load("int8", "auto");
  ASSERT_TRUE(plain.has_value()) << plain.error().message;
  ASSERT_TRUE(rounded.has_value()) << rounded.error().message;
  ASSERT_TRUE(kept.has_value()) << kept.error().message;
  const ScoredAnswer expected = answer(**plain);
  const ScoredAnswer with_int8 = answer(**rounded);
  const ScoredAnswer with_bf16 = answer(**kept);
  EXPECT_EQ(with_int8.profile, expected.profile);
  EXPECT_EQ(with_bf16.profile, expected.profile + "+a16");
  RecordProperty("rounded", std::to_string(difference(with_int8, expected)));
  RecordProperty("kept", std::to_string(difference(with_bf16, expected)));
  EXPECT_GT(difference(with_bf16, expected), 0);
  EXPECT_LT(difference(with_bf16, expected), difference(with_int8, expected));
}

void expect_refused(const std::string& dtype, const std::string& activation_dtype,
                    const std::string& why) {
  const auto service = load(dtype, activation_dtype);
  ASSERT_FALSE(service.has_value());
  EXPECT_EQ(service.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(service.error().message.find(why), std::string::npos) << service.error().message;
}

TEST(ActivationDtype, RefusesWhatHasNoKernels) {
  expect_refused("int4", "auto", "activation dtype is \"auto\", but the weights are int4");
  expect_refused("int8", "bf16", "activation dtype is \"bf16\", supported are int8 and auto");
  if (test_device::name() == "cpu") {
    expect_refused("int8", "auto", "activation dtype is \"auto\", which needs a GPU");
    EXPECT_TRUE(load("", "auto").has_value()) << "plain weights keep their activations anyway";
  }
}

}  // namespace
}  // namespace sluice::engine
