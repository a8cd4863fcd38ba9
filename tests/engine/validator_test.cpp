#include "engine/validator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "tests/engine/fakes.h"

namespace sluice::engine {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int32_t kContext = 64;

ServedModel letters() {
  ServedModel model;
  model.info.vocabulary_size = LetterTokenizer::kSize;
  model.info.context_length = kContext;
  model.info.kv_capacity_tokens = 1000;
  model.tokenizer = std::make_unique<LetterTokenizer>();
  return model;
}

Result<CheckedRequest> check(GenerateRequest request) {
  static const ServedModel model = letters();
  return check_request(std::move(request), model, ServiceLimits{},
                       base::TimePoint(std::chrono::hours(1)));
}

struct Case {
  const char* name;
  std::function<void(GenerateRequest&)> change;
  const char* in_message;  // null: accepted
};

class ValidatorTest : public testing::TestWithParam<Case> {};

TEST_P(ValidatorTest, NamesWhatIsWrong) {
  GenerateRequest request;
  request.token_ids = {1, 2, 3};
  GetParam().change(request);
  const auto checked = check(request);
  if (GetParam().in_message == nullptr) {
    EXPECT_TRUE(checked.has_value()) << checked.error().message;
    return;
  }
  ASSERT_FALSE(checked.has_value());
  EXPECT_EQ(checked.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(checked.error().message.find(GetParam().in_message), std::string::npos)
      << checked.error().message;
}

void set_prompt(GenerateRequest& r, std::string text) {
  r.token_ids.reset();
  r.prompt = std::move(text);
}

const Case kCases[] = {
    {"plain", [](auto&) {}, nullptr},
    {"neither", [](auto& r) { r.token_ids.reset(); }, "all absent"},
    {"both", [](auto& r) { r.prompt = "abc"; }, "more than one"},
    {"no_ids", [](auto& r) { r.token_ids->clear(); }, "token_ids is empty"},
    {"empty_text", [](auto& r) { set_prompt(r, ""); }, "prompt is empty"},
    {"text_without_tokens", [](auto& r) { set_prompt(r, "  "); }, "prompt has no tokens"},
    {"space_and_token", [](auto& r) { set_prompt(r, " a "); }, nullptr},
    {"not_utf8", [](auto& r) { set_prompt(r, "ab\xff"); }, "UTF-8 at byte 2"},
    {"overlong", [](auto& r) { set_prompt(r, "a\xc0\xaf"); }, "UTF-8 at byte 1"},
    {"surrogate", [](auto& r) { set_prompt(r, "\xed\xa0\x80"); }, "UTF-8 at byte 0"},
    {"nul", [](auto& r) { set_prompt(r, std::string("a\0b", 3)); }, nullptr},
    {"bytes_limit", [](auto& r) { set_prompt(r, "a" + std::string((1 << 20) - 1, ' ')); }, nullptr},
    {"bytes_over", [](auto& r) { set_prompt(r, "a" + std::string(1 << 20, ' ')); },
     "limit is 1048576"},
    {"context_less_one", [](auto& r) { r.token_ids->assign(kContext - 1, 1); }, nullptr},
    {"context", [](auto& r) { r.token_ids->assign(kContext, 1); }, "64 tokens, limit is 64"},
    {"context_over", [](auto& r) { r.token_ids->assign(kContext + 1, 1); },
     "prompt has 65 tokens, limit is 64 (--max-model-len)"},
    {"huge", [](auto& r) { r.token_ids->assign(10000000, -1); }, "10000000 tokens"},
    {"id_negative", [](auto& r) { (*r.token_ids)[1] = -1; }, "token_ids[1] is -1"},
    {"id_vocabulary", [](auto& r) { (*r.token_ids)[2] = 29; },
     "token_ids[2] is 29, must be from 0 to 28"},
    {"id_2_31", [](auto& r) { (*r.token_ids)[0] = int64_t{1} << 31; },
     "token_ids[0] is 2147483648"},
    {"id_2_32", [](auto& r) { (*r.token_ids)[0] = (int64_t{1} << 32); }, "token_ids[0]"},
    {"temperature_negative", [](auto& r) { r.temperature = -1; }, "temperature is -1"},
    {"temperature_nan", [](auto& r) { r.temperature = kNan; }, "temperature is nan"},
    {"temperature_infinite", [](auto& r) { r.temperature = kInfinity; }, "temperature is inf"},
    {"temperature_minus_infinite", [](auto& r) { r.temperature = -kInfinity; },
     "temperature is -inf"},
    {"temperature_tiny", [](auto& r) { r.temperature = 1e-45; }, nullptr},
    {"temperature_large", [](auto& r) { r.temperature = 1e38; }, nullptr},
    {"temperature_over", [](auto& r) { r.temperature = 1e39; }, "temperature"},
    {"top_p_zero", [](auto& r) { r.top_p = 0; }, "top_p is 0"},
    {"top_p_minus_zero", [](auto& r) { r.top_p = -0.0; }, "top_p"},
    {"top_p_denormal", [](auto& r) { r.top_p = 1e-320; }, "top_p"},
    {"top_p_one", [](auto& r) { r.top_p = 1; }, nullptr},
    {"top_p_over", [](auto& r) { r.top_p = 1.0001; }, "top_p is 1.0001"},
    {"top_p_barely_over", [](auto& r) { r.top_p = 1.0000000001; }, "top_p"},
    {"top_p_nan", [](auto& r) { r.top_p = kNan; }, "top_p is nan"},
    {"top_k_minus_two", [](auto& r) { r.top_k = -2; }, "top_k is -2"},
    {"top_k_minus_one", [](auto& r) { r.top_k = -1; }, nullptr},
    {"top_k_vocabulary", [](auto& r) { r.top_k = 29; }, nullptr},
    {"top_k_over", [](auto& r) { r.top_k = 30; }, "top_k is 30"},
    {"min_p_over", [](auto& r) { r.min_p = 1.1; }, "min_p is 1.1"},
    {"min_p_negative", [](auto& r) { r.min_p = -0.1; }, "min_p"},
    {"repetition_zero", [](auto& r) { r.repetition_penalty = 0; },
     "repetition_penalty is 0, must be"},
    {"repetition_negative", [](auto& r) { r.repetition_penalty = -1; }, "repetition_penalty"},
    {"repetition_nan", [](auto& r) { r.repetition_penalty = kNan; }, "repetition_penalty"},
    {"repetition_huge", [](auto& r) { r.repetition_penalty = 1e9; }, "from 0.01 to 100"},
    {"presence_border", [](auto& r) { r.presence_penalty = -2; }, nullptr},
    {"presence_over", [](auto& r) { r.presence_penalty = 2.01; }, "presence_penalty is 2.01"},
    {"frequency_over", [](auto& r) { r.frequency_penalty = -2.01; }, "frequency_penalty"},
    {"max_tokens_zero", [](auto& r) { r.max_tokens = 0; }, "max_tokens is 0, must be from 1 to 61"},
    {"max_tokens_room", [](auto& r) { r.max_tokens = 61; }, nullptr},
    {"max_tokens_over", [](auto& r) { r.max_tokens = 62; }, "max_tokens is 62"},
    {"max_tokens_2_32", [](auto& r) { r.max_tokens = 4294967295; }, "max_tokens is 4294967295"},
    {"min_tokens_negative", [](auto& r) { r.min_tokens = -1; }, "min_tokens"},
    {"min_over_max",
     [](auto& r) {
       r.max_tokens = 5;
       r.min_tokens = 6;
     },
     "max_tokens, which is 5"},
    {"min_over_default", [](auto& r) { r.min_tokens = 62; }, "max_tokens, which is 61"},
    {"n_zero", [](auto& r) { r.n = 0; }, "n is 0, must be from 1 to 8"},
    {"n_eight", [](auto& r) { r.n = 8; }, nullptr},
    {"n_nine", [](auto& r) { r.n = 9; }, "n is 9"},
    {"n_2_31", [](auto& r) { r.n = int64_t{1} << 31; }, "n is 2147483648"},
    {"stop_empty", [](auto& r) { r.stop = {""}; }, "stop[0]"},
    {"stop_too_many", [](auto& r) { r.stop.assign(17, "a"); }, "stop has 17 entries, limit is 16"},
    {"stop_limit", [](auto& r) { r.stop.assign(16, std::string(256, 'a')); }, nullptr},
    {"stop_long", [](auto& r) { r.stop = {"a", std::string(257, 'a')}; }, "stop[1] is 257"},
    {"stop_regex_like", [](auto& r) { r.stop = {".*(a|b)+$"}; }, nullptr},
    {"stop_not_utf8", [](auto& r) { r.stop = {"\xff"}; }, "stop[0] is not well-formed"},
    {"stop_ids_many", [](auto& r) { r.stop_token_ids.assign(1000, 1); },
     "1000 entries, limit is 64"},
    {"stop_id_range", [](auto& r) { r.stop_token_ids = {1, 29}; }, "stop_token_ids[1] is 29"},
    {"bias_many", [](auto& r) { r.logit_bias.assign(1000000, {1, 1}); },
     "1000000 entries, limit is 1024"},
    {"bias_id", [](auto& r) { r.logit_bias = {{-1, 1}}; }, "logit_bias[0].token_id is -1"},
    {"bias_nan", [](auto& r) { r.logit_bias = {{1, kNan}}; }, "logit_bias[0].bias is nan"},
    {"bias_over", [](auto& r) { r.logit_bias = {{1, 100.5}}; }, "logit_bias[0].bias is 100.5"},
    {"bias_infinite", [](auto& r) { r.logit_bias = {{1, kInfinity}}; },
     "logit_bias[0].bias is inf"},
    {"bias_forbids", [](auto& r) { r.logit_bias = {{1, -kInfinity}}; }, nullptr},
    {"bias_twice", [](auto& r) { r.logit_bias = {{1, 1}, {2, 1}, {1, 3}}; }, "token_id 1 twice"},
    {"logprobs_negative", [](auto& r) { r.logprobs = -1; }, "logprobs is -1, must be from 0 to 20"},
    {"logprobs_border",
     [](auto& r) {
       r.logprobs = 20;
       r.prompt_logprobs = 0;
     },
     nullptr},
    {"logprobs_over", [](auto& r) { r.logprobs = 21; }, "logprobs is 21"},
    {"prompt_logprobs_over", [](auto& r) { r.prompt_logprobs = 1000000; },
     "prompt_logprobs is 1000000"},
    {"id_long", [](auto& r) { r.request_id = std::string(257, 'x'); }, "request_id is 257"},
    {"id_not_utf8", [](auto& r) { r.request_id = "\xff"; }, "request_id"},
};

INSTANTIATE_TEST_SUITE_P(All, ValidatorTest, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

TEST(ValidatorTest, AppliesDefaults) {
  GenerateRequest request;
  request.prompt = "abc";
  const auto checked = check(request);
  ASSERT_TRUE(checked.has_value());
  EXPECT_EQ(checked->prompt, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(checked->stop.max_tokens, kContext - 3);
  EXPECT_EQ(checked->stop.max_length, kContext);
  EXPECT_EQ(checked->n, 1);
  EXPECT_EQ(checked->sampling.temperature, 1.0f);
  EXPECT_EQ(checked->sampling.num_logprobs, -1);
  EXPECT_FALSE(checked->id.empty());
  EXPECT_EQ(checked->deadline - checked->arrival, ServiceLimits{}.max_request_age);
}

TEST(ValidatorTest, PromptLogprobsAreBounded) {
  ServiceLimits limits;
  limits.max_prompt_logprob_entries = 3 * 21 * 2;
  const ServedModel model = letters();
  GenerateRequest request;
  request.token_ids = {1, 2, 3};
  request.prompt_logprobs = 20;
  request.n = 2;
  EXPECT_TRUE(check_request(GenerateRequest(request), model, limits, {}).has_value());
  request.n = 3;
  const auto refused = check_request(GenerateRequest(request), model, limits, {});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("189 entries"), std::string::npos);
}

TEST(ValidatorTest, AnEndlessRequestAgeIsNoPastDeadline) {
  ServiceLimits limits;
  limits.max_request_age = std::chrono::nanoseconds::max();
  GenerateRequest request;
  request.token_ids = {1};
  const auto checked =
      check_request(std::move(request), letters(), limits, base::TimePoint(std::chrono::hours(1)));
  ASSERT_TRUE(checked.has_value()) << checked.error().message;
  EXPECT_EQ(checked->deadline, base::TimePoint::max());
}

TEST(ValidatorTest, WhatCanNeverFitTheCacheIsRefused) {
  ServedModel model = letters();
  model.info.kv_capacity_tokens = 32;
  GenerateRequest request;
  request.token_ids = {1, 2, 3};
  request.max_tokens = 30;  // the last token is never computed
  EXPECT_TRUE(check_request(GenerateRequest(request), model, {}, {}).has_value());
  request.max_tokens = 31;
  const auto refused = check_request(GenerateRequest(request), model, {}, {});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("33 tokens, there is room for 32"), std::string::npos);
}

}  // namespace
}  // namespace sluice::engine
