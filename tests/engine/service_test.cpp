#include <gtest/gtest.h>

#include "tests/engine/fakes.h"

namespace sluice::engine {
namespace {

TEST(ServiceTest, GeneratesAndReportsUsage) {
  FakeService fake;
  const auto recorder = fake.start(request_of({0, 1, 2}, 5));
  fake.run_until_idle();
  ASSERT_TRUE(recorder->has_ended());
  EXPECT_EQ(recorder->tokens(), expected_tokens({0, 1, 2}, 5));
  EXPECT_EQ(recorder->text(), LetterTokenizer().decode(recorder->tokens(), true));
  EXPECT_EQ(recorder->last_chunk()->finish_reason, FinishReason::kLength);
  const auto end = recorder->end();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->usage.prompt_tokens, 3);
  EXPECT_EQ(end->usage.completion_tokens, 5);
  EXPECT_EQ(end->profile, "scripted/1");
  EXPECT_EQ(fake.service->server_info().kv_blocks_used, 0);
}

TEST(ServiceTest, OneChunkAStep) {
  FakeService fake;
  const auto recorder = fake.start(request_of({0}, 3));
  fake.run_until_idle();
  ASSERT_EQ(recorder->chunks().size(), 3u);
  for (const GenerateChunk& chunk : recorder->chunks()) EXPECT_EQ(chunk.token_ids.size(), 1u);
}

TEST(ServiceTest, MeasuresTimesOnItsClock) {
  FakeService fake;
  fake.script->computes = [&](const StepInput&) {
    fake.clock.advance(std::chrono::milliseconds(10));
  };
  GenerateRequest request = request_of({0}, 4);
  const auto recorder = fake.start(request);
  fake.clock.advance(std::chrono::milliseconds(7));
  fake.run_until_idle();
  const Usage usage = recorder->end()->usage;
  EXPECT_EQ(usage.queue_time, std::chrono::milliseconds(7));
  EXPECT_EQ(usage.prefill_time, std::chrono::milliseconds(10));
  EXPECT_EQ(usage.decode_time, std::chrono::milliseconds(30));
}

TEST(ServiceTest, ASeedIsDrawnOnceAndReported) {
  FakeService fake;
  const auto first = fake.start(request_of({0}, 2));
  const auto second = fake.start(request_of({0}, 2));
  GenerateRequest request = request_of({0}, 2);
  request.seed = 77;
  const auto third = fake.start(request);
  fake.run_until_idle();
  EXPECT_NE(first->end()->seed, second->end()->seed);
  EXPECT_EQ(third->end()->seed, 77u);
}

TEST(ServiceTest, StopStringEndsTheTextAndTheEngineLetsGo) {
  FakeService fake;
  GenerateRequest request = request_of({0}, 40);
  const auto expected = expected_tokens({0}, 40);
  const std::string all = LetterTokenizer().decode(expected, true);
  request.stop = {all.substr(3, 2)};
  const auto recorder = fake.start(request);
  fake.run_until_idle();
  EXPECT_EQ(recorder->text(), all.substr(0, all.find(request.stop[0])));
  EXPECT_EQ(recorder->last_chunk()->finish_reason, FinishReason::kStop);
  EXPECT_EQ(recorder->last_chunk()->stop_reason, request.stop[0]);
  const auto num_tokens = static_cast<int32_t>(all.find(request.stop[0]) + 2);
  EXPECT_EQ(recorder->end()->usage.completion_tokens, num_tokens);
  EXPECT_EQ(static_cast<int32_t>(recorder->tokens().size()), num_tokens);
  EXPECT_LE(fake.script->num_steps, num_tokens + 1);
  EXPECT_EQ(fake.service->server_info().kv_blocks_used, 0);
}

TEST(ServiceTest, StopTokensAndEndTokens) {
  const auto script = [](int32_t, uint32_t position) {
    return position == 4 ? 9 : position == 7 ? LetterTokenizer::kEnd : 1;
  };
  struct Case {
    std::vector<int64_t> stop_ids;
    bool ignore_eos;
    size_t num_tokens;
    const char* text;
    std::optional<std::string> stop_reason;
  };
  for (const Case& c : {Case{{}, false, 7, "bbbjbb", "26"}, Case{{9}, false, 4, "bbb", "9"},
                        Case{{}, true, 10, "bbbjbbbbb", std::nullopt}}) {
    FakeService fake;
    fake.script->token = script;
    GenerateRequest request = request_of({0}, 10);
    request.stop_token_ids = c.stop_ids;
    request.ignore_eos = c.ignore_eos;
    const auto recorder = fake.start(request);
    fake.run_until_idle();
    EXPECT_EQ(recorder->tokens().size(), c.num_tokens);
    EXPECT_EQ(recorder->text(), c.text);
    EXPECT_EQ(recorder->last_chunk()->stop_reason, c.stop_reason);
  }
}

TEST(ServiceTest, MinTokensForbidsEndAndStopTokens) {
  FakeService fake;
  GenerateRequest request = request_of({0}, 4);
  request.min_tokens = 2;
  request.stop_token_ids = {5};
  fake.start(request);
  std::vector<size_t> num_forbidden;
  while (fake.service->tick()) {
    if (!fake.script->last_forbidden.empty()) {
      num_forbidden.push_back(fake.script->last_forbidden[0].size());
    }
    fake.script->last_forbidden.clear();
  }
  EXPECT_EQ(num_forbidden, (std::vector<size_t>{2, 2, 0, 0}));
}

TEST(ServiceTest, AnUnfinishedCharacterIsHeldBackAndTheEndReleasesIt) {
  FakeService fake;
  fake.script->token = [](int32_t, uint32_t position) {
    return position == 1 || position == 4 ? 27 : position == 2 ? 28 : 1;
  };
  const auto recorder = fake.start(request_of({0}, 4));
  fake.run_until_idle();
  const auto chunks = recorder->chunks();
  ASSERT_EQ(chunks.size(), 4u);
  EXPECT_EQ(chunks[0].text, "");
  EXPECT_EQ(chunks[1].text, "\xc3\xa9");
  EXPECT_EQ(chunks[3].text, "\xef\xbf\xbd");
}

TEST(ServiceTest, CompletionsEchoAndPromptLogprobs) {
  FakeService fake;
  GenerateRequest request;
  request.prompt = "abcdefghij";
  request.n = 3;
  request.max_tokens = 4;
  request.echo = true;
  request.logprobs = 1;
  request.prompt_logprobs = 1;
  const auto recorder = fake.start(request);
  fake.run_until_idle();
  ASSERT_TRUE(recorder->end().has_value());
  for (int32_t index = 0; index < 3; ++index) {
    std::vector<GenerateChunk> own;
    for (const GenerateChunk& chunk : recorder->chunks()) {
      if (chunk.index == index) own.push_back(chunk);
    }
    ASSERT_TRUE(own.front().is_prompt);
    EXPECT_EQ(own.front().text, "abcdefghij");
    ASSERT_EQ(own.front().logprobs.size(), 10u);
    for (size_t p = 1; p < 10; ++p) {
      EXPECT_EQ(own.front().logprobs[p].token.token_id, static_cast<int32_t>(p));
      EXPECT_EQ(own.front().logprobs[p].token.logprob, -0.5f * static_cast<float>(p));
      EXPECT_EQ(own.front().logprobs[p].token.text, std::string(1, static_cast<char>('a' + p)));
    }
    EXPECT_FALSE(own[1].is_prompt);
    EXPECT_EQ(own[1].logprobs.size(), own[1].token_ids.size());
    EXPECT_EQ(recorder->tokens(index).size(), 4u);
    EXPECT_EQ(recorder->last_chunk(index)->finish_reason, FinishReason::kLength);
  }
  EXPECT_EQ(recorder->end()->usage.completion_tokens, 12);
  EXPECT_EQ(recorder->end()->usage.prompt_tokens, 10);
}

TEST(ServiceTest, WithoutATokenizerTokensGoInAndOut) {
  FakeServiceOptions options;
  options.has_tokenizer = false;
  FakeService fake(options);
  const auto recorder = fake.start(request_of({3}, 4));
  fake.run_until_idle();
  EXPECT_EQ(recorder->tokens(), expected_tokens({3}, 4));
  EXPECT_EQ(recorder->text(), "");
  GenerateRequest text;
  text.prompt = "abc";
  EXPECT_EQ(fake.service->generate(text, recorder).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(fake.service->tokenize("", "abc", true).error().code, ErrorCode::kFailedPrecondition);
}

TEST(ServiceTest, ModelsAreFoundByName) {
  FakeService fake;
  GenerateRequest request = request_of({0}, 1);
  request.model = "../" + std::string(200, 'x') + "\n";
  const auto refused = fake.service->generate(request, std::make_shared<Recorder>());
  EXPECT_EQ(refused.error().code, ErrorCode::kNotFound);
  EXPECT_LT(refused.error().message.size(), 120u);
  request.model = "letters";
  EXPECT_TRUE(fake.service->generate(request, std::make_shared<Recorder>()).has_value());
}

TEST(ServiceTest, TokenizeAndDetokenize) {
  FakeService fake;
  EXPECT_EQ(*fake.service->tokenize("letters", "cab", true), (std::vector<int32_t>{2, 0, 1}));
  EXPECT_EQ(*fake.service->detokenize("", {2, 0, 26}, true), "ca");
  EXPECT_EQ(*fake.service->detokenize("", {2, 0, 26}, false), "ca</s>");
  EXPECT_EQ(fake.service->detokenize("", {29}, true).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(fake.service->tokenize("", "\xff", true).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace sluice::engine
