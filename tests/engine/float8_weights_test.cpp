// Packages with fp8 weights, from import to tokens.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "sluice/import.h"
#include "sluice/runtime.h"
#include "tests/device/test_device.h"
#include "tests/engine/scored_answer.h"

namespace sluice::engine {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = fs::path(SLUICE_SOURCE_DIR) / "tests/golden/variants/llama_gqa_tied_bf16";

class Float8Weights : public testing::Test {
 protected:
  void SetUp() override {
    if (test_device::name() == "cpu") GTEST_SKIP() << "fp8 weights need a GPU";
    ImportOptions options;
    options.source = kSource;
    options.package = package_;
    options.dtype = "fp8";
    const auto imported = import_model(options);
    ASSERT_TRUE(imported.has_value()) << imported.error().message;
  }
  void TearDown() override {
    std::error_code error;
    fs::remove_all(package_, error);
  }

  static std::unique_ptr<Service> load(const fs::path& model, const std::string& dtype,
                                       const std::string& activation_dtype) {
    RuntimeOptions options;
    options.models = {{"model", model}};
    options.device = test_device::name();
    options.num_threads = 1;
    options.kv_cache_bytes = int64_t{4} << 20;
    options.dtype = dtype;
    options.activation_dtype = activation_dtype;
    auto service = create_service(std::move(options));
    EXPECT_TRUE(service.has_value()) << service.error().message;
    return service ? std::move(*service) : nullptr;
  }

  static ScoredAnswer answer(Service& service) {
    std::vector<int64_t> prompt(40);
    for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int64_t>(i * 37 + 11) % 90;
    return score(service, std::move(prompt), 8);
  }

  fs::path package_ = fs::temp_directory_path() / ("sluice-float8-" + std::to_string(::getpid()));
};

TEST_F(Float8Weights, APackageGivesTheBitsOfItsFolder) {
  for (const char* activation_dtype : {"fp8", "auto"}) {
    const auto of_folder = load(kSource, "fp8", activation_dtype);
    const auto of_package = load(package_, "", activation_dtype);
    ASSERT_TRUE(of_folder && of_package);
    EXPECT_EQ(of_package->models()[0].dtype, "fp8");
    const ScoredAnswer expected = answer(*of_folder);
    const ScoredAnswer actual = answer(*of_package);
    EXPECT_EQ(actual.prompt_logprobs, expected.prompt_logprobs) << activation_dtype;
    EXPECT_EQ(actual.tokens, expected.tokens);
    EXPECT_EQ(actual.profile, expected.profile);
  }
}

double mean(const std::vector<double>& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), 0.0) / static_cast<double>(numbers.size());
}

// Of a text that the model wrote itself. What it costs on more: docs/models.md.
TEST_F(Float8Weights, CostALittleOfThePerplexity) {
  const fs::path model = fs::path(SLUICE_SOURCE_DIR) / "models/llama-tiny";
  const auto plain = load(model, "", "");
  ASSERT_NE(plain, nullptr);
  std::vector<int64_t> text = {1, 317, 366, 267};
  for (const int32_t token : score(*plain, text, 40).tokens) text.push_back(token);
  const double expected = mean(score(*plain, text, 1).prompt_logprobs);
  RecordProperty("plain", std::to_string(expected));
  for (const std::string activation_dtype : {"fp8", "auto"}) {
    const auto fp8 = load(model, "fp8", activation_dtype);
    ASSERT_NE(fp8, nullptr);
    const double actual = mean(score(*fp8, text, 1).prompt_logprobs);
    RecordProperty(activation_dtype, std::to_string(actual));
    EXPECT_NEAR(actual, expected, 0.02) << activation_dtype;
    EXPECT_NE(actual, expected) << activation_dtype;
  }
}

}  // namespace
}  // namespace sluice::engine
