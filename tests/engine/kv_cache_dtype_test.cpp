// An int8 KV cache from end to end: what it changes, and that an answer tells it.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <string>

#include "sluice/runtime.h"
#include "tests/engine/waiting_observer.h"

namespace sluice::engine {
namespace {

constexpr const char* kText =
    "The moon is beautiful in every season, and the sea below it moves as the wind does. A child "
    "asked why the water goes away and comes again, and the old man by the boat said that the "
    "moon calls it, twice in a day. They waited until the light was gone. Then they went home, "
    "made a small fire and talked about the fish that nobody had ever seen.";

struct Answer {
  double mean_logprob = 0;  // of the prompt's tokens
  std::vector<int32_t> tokens;
  std::string profile;
};

class KvCacheDtypeTest : public testing::TestWithParam<const char*> {
 protected:
  static Result<std::unique_ptr<Service>> load(const std::string& kv_cache_dtype) {
    RuntimeOptions options;
    options.models = {{"model", std::filesystem::path(SLUICE_SOURCE_DIR) / GetParam()}};
    options.device = "cpu";
    options.num_threads = 1;
    options.kv_cache_bytes = int64_t{16} << 20;
    options.kv_cache_dtype = kv_cache_dtype;
    return create_service(std::move(options));
  }

  static Answer answer(Service& service) {
    GenerateRequest request;
    request.prompt = kText;
    request.max_tokens = 32;
    request.temperature = 0;
    request.ignore_eos = true;
    request.prompt_logprobs = 0;
    const auto observer = std::make_shared<WaitingObserver>();
    EXPECT_TRUE(service.generate(std::move(request), observer).has_value());
    const auto& summary = observer->wait();
    EXPECT_TRUE(summary.has_value());
    Answer answer{.tokens = {}, .profile = summary->profile};
    double sum = 0;
    int count = 0;
    for (const GenerateChunk& chunk : observer->chunks()) {
      if (!chunk.is_prompt) {
        answer.tokens.insert(answer.tokens.end(), chunk.token_ids.begin(), chunk.token_ids.end());
        continue;
      }
      for (const PositionLogprobs& position : chunk.logprobs) {
        if (!std::isfinite(position.token.logprob)) continue;  // the first token has none
        sum += position.token.logprob;
        ++count;
      }
    }
    EXPECT_GT(count, 40);
    answer.mean_logprob = sum / std::max(count, 1);
    return answer;
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

TEST_P(KvCacheDtypeTest, RefusesWhatTheModelIsNot) {
  const auto service = load("fp8");
  ASSERT_FALSE(service.has_value());
  EXPECT_EQ(service.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(service.error().message.find("\"fp8\""), std::string::npos) << service.error().message;
}

INSTANTIATE_TEST_SUITE_P(Models, KvCacheDtypeTest,
                         testing::Values("models/llama-tiny", "models/bloom-tiny"),
                         [](const auto& info) {
                           return std::string(info.index == 0 ? "llama" : "bloom");
                         });

}  // namespace
}  // namespace sluice::engine
