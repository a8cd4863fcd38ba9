// A KV cache of 8 bits from end to end: what it changes, and that an answer tells it.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "sluice/runtime.h"
#include "tests/device/test_device.h"
#include "tests/engine/scored_answer.h"

namespace sluice::engine {
namespace {

// "The moon is beautiful in every season, and the sea below it moves as the wind does. A child
// asked why the water goes away and comes again, and the old man by the boat said that the moon
// calls it, twice in a day. They waited until the light was gone. Then they went home, made a small
// fire and talked about the fish that nobody had ever seen." in the tokens of each model: a build
// without tokenizers runs this too.
constexpr int64_t kLlamaText[] = {
    1,   317,  366,  267,  294,  315,  2418, 321,  358,  389,  290,  761,  343,  1828, 2441, 287,
    263, 1609, 315,  1011, 312,  1927, 380,  263,  695,  720,  2438, 327,  1255, 1103, 292,  1774,
    263, 1272, 1088, 276,  260,  2436, 320,  287,  339,  276,  1013, 2441, 287,  263,  559,  440,
    411, 263,  277,  2419, 275,  865,  357,  263,  366,  267,  269,  351,  2422, 312,  2441, 685,
    508, 290,  260,  486,  2438, 1313, 268,  2418, 273,  292,  306,  403,  331,  263,  1005, 616,
    324, 789,  2438, 1508, 660,  268,  330,  1080, 2441, 1989, 260,  800,  278,  539,  287,  1297,
    292, 629,  263,  278,  1329, 357,  1089, 1062, 2133, 309,  313,  1905, 2438};
constexpr int64_t kBloomText[] = {
    742,  4045, 332,  390,  3940, 496,  582,  323,  1328, 460,  2830, 15,   318,  271,  2548,
    390,  1702, 382,  2938, 561,  271,  1212, 1265, 17,   452,  2056, 3578, 2763, 271,  2073,
    3974, 266,  3548, 318,  451,  293,  1710, 15,   318,  271,  959,  711,  638,  271,  295,
    82,   292,  1497, 495,  271,  4045, 283,  479,  86,   382,  15,   1202, 859,  323,  266,
    799,  17,   2143, 282,  68,   290,  326,  364,  618,  430,  271,  1698, 1066, 414,  1371,
    17,   2459, 1150, 282,  428,  1795, 15,   3005, 266,  1392, 296,  918,  318,  2113, 326,
    1100, 271,  296,  2161, 495,  1821, 1772, 3175, 372,  387,  2909, 17};

struct Model {
  const char* name;
  const char* folder;
  std::span<const int64_t> text;
};
constexpr Model kModels[] = {{"llama", "models/llama-tiny", kLlamaText},
                             {"bloom", "models/bloom-tiny", kBloomText}};

struct Answer {
  double mean_logprob = 0;  // of the prompt's tokens
  std::vector<int32_t> tokens;
  std::string profile;
};

class KvCacheDtypeTest : public testing::TestWithParam<Model> {
 protected:
  static Result<std::unique_ptr<Service>> load(const std::string& kv_cache_dtype) {
    RuntimeOptions options;
    options.models = {{"model", std::filesystem::path(SLUICE_SOURCE_DIR) / GetParam().folder}};
    options.device = test_device::name();
    options.num_threads = 1;
    options.kv_cache_bytes = int64_t{16} << 20;
    options.kv_cache_dtype = kv_cache_dtype;
    return create_service(std::move(options));
  }

  static Answer answer(Service& service) {
    ScoredAnswer scored = score(service, {GetParam().text.begin(), GetParam().text.end()}, 32);
    const auto& logprobs = scored.prompt_logprobs;
    EXPECT_GT(logprobs.size(), 40u);
    const double sum = std::accumulate(logprobs.begin(), logprobs.end(), 0.0);
    return {.mean_logprob = sum / static_cast<double>(logprobs.size()),
            .tokens = std::move(scored.tokens),
            .profile = std::move(scored.profile)};
  }
};

TEST_P(KvCacheDtypeTest, Int8CostsLessThanAPercentOfPerplexity) {
  const auto plain = load("auto");
  const auto int8 = load("int8");
  ASSERT_TRUE(plain.has_value()) << plain.error().message;
  ASSERT_TRUE(int8.has_value()) << int8.error().message;
  const Answer expected = answer(**plain);
  const Answer actual = answer(**int8);
  RecordProperty("perplexity", std::to_string(std::exp(-expected.mean_logprob)));
  RecordProperty("perplexity_int8", std::to_string(std::exp(-actual.mean_logprob)));
  EXPECT_NEAR(actual.mean_logprob, expected.mean_logprob, 0.01);
  EXPECT_NE(actual.mean_logprob, expected.mean_logprob);  // it was used at all
  ASSERT_EQ(actual.tokens.size(), expected.tokens.size());
  EXPECT_EQ(actual.profile, expected.profile + "+kv8");
  EXPECT_LT((*int8)->models()[0].kv_bytes_per_token, (*plain)->models()[0].kv_bytes_per_token);
}

TEST_P(KvCacheDtypeTest, Float8CostsAFewPercentOfPerplexity) {
  if (test_device::name() == "cpu") GTEST_SKIP() << "an fp8 KV cache needs a GPU";
  const auto plain = load("auto");
  const auto fp8 = load("fp8");
  ASSERT_TRUE(plain.has_value()) << plain.error().message;
  ASSERT_TRUE(fp8.has_value()) << fp8.error().message;
  const Answer expected = answer(**plain);
  const Answer actual = answer(**fp8);
  RecordProperty("perplexity", std::to_string(std::exp(-expected.mean_logprob)));
  RecordProperty("perplexity_fp8", std::to_string(std::exp(-actual.mean_logprob)));
  EXPECT_NEAR(actual.mean_logprob, expected.mean_logprob, 0.03);
  EXPECT_NE(actual.mean_logprob, expected.mean_logprob);
  ASSERT_EQ(actual.tokens.size(), expected.tokens.size());
  EXPECT_EQ(actual.profile, expected.profile + "+kvf8");
  // A scale is a byte in place of four.
  const auto int8 = load("int8");
  ASSERT_TRUE(int8.has_value()) << int8.error().message;
  EXPECT_LT((*fp8)->models()[0].kv_bytes_per_token, (*int8)->models()[0].kv_bytes_per_token);
}

TEST_P(KvCacheDtypeTest, TheCpuRefusesFloat8) {
  if (test_device::name() != "cpu") return;
  const auto service = load("fp8");
  ASSERT_FALSE(service.has_value());
  EXPECT_EQ(service.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(
      service.error().message.find("\"fp8\", which needs a GPU: the CPU supports auto, bf16 and "
                                   "int8 (--kv-cache-dtype)"),
      std::string::npos)
      << service.error().message;
}

TEST_P(KvCacheDtypeTest, RefusesWhatTheModelIsNot) {
  const auto service = load("fp4");
  ASSERT_FALSE(service.has_value());
  EXPECT_EQ(service.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(service.error().message.find("\"fp4\""), std::string::npos) << service.error().message;
}

INSTANTIATE_TEST_SUITE_P(Models, KvCacheDtypeTest, testing::ValuesIn(kModels),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sluice::engine
