// Generate over loopback: what goes in, what comes out, in which order, with which status.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "server/grpc/generation_client.h"
#include "tests/server/fake_service.h"
#include "tests/server/loopback.h"

namespace sluice::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Generate, StreamsTokensInOrderAndEndsWithReasonAndUsage) {
  FakeService service([](FakeCall& call) {
    for (int32_t i = 0; i < 5; ++i) call.send(i, std::to_string(i));
    GenerateSummary summary;
    summary.request_id = "r-1";
    summary.seed = std::numeric_limits<uint64_t>::max();
    summary.profile = "test/1";
    summary.digest = "00ff";
    summary.usage = {.prompt_tokens = 3,
                     .cached_tokens = 2,
                     .completion_tokens = 5,
                     .queue_time = std::chrono::microseconds(7),
                     .prefill_time = std::chrono::milliseconds(8),
                     .decode_time = std::chrono::milliseconds(9'001)};
    call.send_finish(FinishReason::kLength);
    call.end(summary);
  });
  Loopback loopback(service);
  grpc::ClientContext context;
  const auto reader = loopback.stub().Generate(&context, prompt_request());
  const Stream stream = read_all(*reader);

  ASSERT_TRUE(stream.status.ok()) << stream.status.error_message();
  EXPECT_EQ(stream.text(), "01234");
  EXPECT_THAT(stream.token_ids(), ElementsAre(0, 1, 2, 3, 4));
  for (size_t i = 0; i + 1 < stream.messages.size(); ++i) {
    EXPECT_FALSE(stream.messages[i].has_usage());
    EXPECT_FALSE(stream.messages[i].has_finish_reason());
  }
  const v1::GenerateResponse& last = stream.messages.back();
  EXPECT_EQ(last.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(last.request_id(), "r-1");
  EXPECT_EQ(last.seed(), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(last.profile(), "test/1");
  EXPECT_EQ(last.digest(), "00ff");
  EXPECT_EQ(last.usage().prompt_tokens(), 3);
  EXPECT_EQ(last.usage().cached_tokens(), 2);
  EXPECT_EQ(last.usage().completion_tokens(), 5);
  EXPECT_EQ(last.usage().queue_time().nanos(), 7'000);
  EXPECT_EQ(last.usage().prefill_time().nanos(), 8'000'000);
  EXPECT_EQ(last.usage().decode_time().seconds(), 9);
  EXPECT_EQ(last.usage().decode_time().nanos(), 1'000'000);

  const auto& initial = context.GetServerInitialMetadata();
  ASSERT_NE(initial.find("sluice-profile"), initial.end());
  EXPECT_EQ(initial.find("sluice-profile")->second, "test/1");
  EXPECT_EQ(initial.find("sluice-digest")->second, "00ff");
  const auto& trailing = context.GetServerTrailingMetadata();
  ASSERT_NE(trailing.find("sluice-seed"), trailing.end());
  EXPECT_EQ(trailing.find("sluice-seed")->second, "18446744073709551615");
  EXPECT_EQ(trailing.find("sluice-request-id")->second, "r-1");
  EXPECT_EQ(trailing.find("sluice-profile")->second, "test/1");
  EXPECT_EQ(trailing.find("sluice-digest")->second, "00ff");
}

TEST(Generate, AbsentFieldsStayAbsent) {
  FakeService service;
  Loopback loopback(service);
  ASSERT_TRUE(generate(loopback.stub(), {}).status.ok());
  const GenerateRequest& got = service.wait_for_call()->request();
  EXPECT_FALSE(got.prompt || got.token_ids || got.max_tokens || got.min_tokens || got.n);
  EXPECT_FALSE(got.temperature || got.top_p || got.top_k || got.min_p || got.seed);
  EXPECT_FALSE(got.repetition_penalty || got.presence_penalty || got.frequency_penalty);
  EXPECT_FALSE(got.logprobs || got.prompt_logprobs || got.deadline);
  EXPECT_FALSE(got.ttft_limit || got.total_limit);
  EXPECT_FALSE(got.ignore_eos || got.echo);
  EXPECT_TRUE(got.skip_special_tokens);
  EXPECT_TRUE(got.logit_bias.empty() && got.stop.empty() && got.stop_token_ids.empty());
}

GenerateRequest full_request() {
  GenerateRequest request;
  request.request_id = "mine";
  request.model = "tiny";
  request.prompt = "人工智能";
  request.token_ids = {-1, int64_t{1} << 31, 0xFFFFFFFF};
  request.max_tokens = 0xFFFFFFFF;
  request.min_tokens = -1;
  request.n = 1;
  request.temperature = 0.0;
  request.top_p = -0.0;
  request.top_k = -2;
  request.min_p = std::numeric_limits<double>::infinity();
  request.repetition_penalty = 1e-45;
  request.presence_penalty = -2.0;
  request.frequency_penalty = 0.1;
  request.logit_bias = {{-1, 1.5}, {int64_t{1} << 40, -100}};
  request.seed = 0;
  request.stop = {"\n\n", ".*"};
  request.stop_token_ids = {5, -6};
  request.ignore_eos = true;
  request.echo = true;
  request.skip_special_tokens = false;
  request.logprobs = 0;
  request.prompt_logprobs = 20;
  request.ttft_limit = std::chrono::milliseconds(-7);
  request.total_limit = std::chrono::hours(24 * 365 * 200);
  return request;
}

TEST(Generate, EveryFieldArrivesAsItWasSent) {
  FakeService service;
  Loopback loopback(service);
  const auto client = GenerationClient::create(loopback.target());
  const GenerateRequest sent = full_request();
  const auto summary = client->generate(sent, [](GenerateChunk) { return true; });
  ASSERT_TRUE(summary) << summary.error().message;

  const GenerateRequest& got = service.wait_for_call()->request();
  EXPECT_EQ(got.request_id, sent.request_id);
  EXPECT_EQ(got.model, sent.model);
  EXPECT_EQ(got.prompt, sent.prompt);
  EXPECT_EQ(got.token_ids, sent.token_ids);
  EXPECT_EQ(got.max_tokens, sent.max_tokens);
  EXPECT_EQ(got.min_tokens, sent.min_tokens);
  EXPECT_EQ(got.n, sent.n);
  EXPECT_EQ(got.temperature, sent.temperature);
  ASSERT_TRUE(got.top_p);
  EXPECT_TRUE(std::signbit(*got.top_p));
  EXPECT_EQ(got.top_k, sent.top_k);
  EXPECT_EQ(got.min_p, sent.min_p);
  EXPECT_EQ(got.repetition_penalty, sent.repetition_penalty);
  EXPECT_EQ(got.presence_penalty, sent.presence_penalty);
  EXPECT_EQ(got.frequency_penalty, sent.frequency_penalty);
  ASSERT_EQ(got.logit_bias.size(), 2u);
  EXPECT_EQ(got.logit_bias[0].token_id, -1);
  EXPECT_EQ(got.logit_bias[1].token_id, int64_t{1} << 40);
  EXPECT_EQ(got.logit_bias[1].bias, -100);
  EXPECT_EQ(got.seed, sent.seed);
  EXPECT_EQ(got.stop, sent.stop);
  EXPECT_EQ(got.stop_token_ids, sent.stop_token_ids);
  EXPECT_TRUE(got.ignore_eos && got.echo);
  EXPECT_FALSE(got.skip_special_tokens);
  EXPECT_EQ(got.logprobs, sent.logprobs);
  EXPECT_EQ(got.prompt_logprobs, sent.prompt_logprobs);
  EXPECT_EQ(got.ttft_limit, sent.ttft_limit);
  EXPECT_EQ(got.total_limit, sent.total_limit);
}

TEST(Generate, CompletionsEchoAndLogprobsReachTheClient) {
  FakeService service([](FakeCall& call) {
    for (int32_t index = 0; index < 2; ++index) {
      GenerateChunk prompt;
      prompt.index = index;
      prompt.is_prompt = true;
      prompt.text = "ab";
      prompt.token_ids = {97, 98};
      call.send(prompt);
      GenerateChunk out;
      out.index = index;
      out.text = "c";
      out.token_ids = {99};
      out.logprobs = {{{99, -0.5f, "c"}, {{99, -0.5f, "c"}, {100, -1.25f, "�"}}}};
      call.send(out);
    }
    GenerateChunk stopped;
    stopped.index = 1;
    stopped.finish_reason = FinishReason::kStop;
    stopped.stop_reason = "END";
    call.send(stopped);
    call.send_finish(FinishReason::kLength, 0);
    call.end(GenerateSummary{});
  });
  Loopback loopback(service);
  GenerateRequest request;
  request.prompt = "ab";
  request.n = 2;
  std::vector<std::vector<GenerateChunk>> got(2);
  const auto summary =
      GenerationClient::create(loopback.target())->generate(request, [&](GenerateChunk chunk) {
        got.at(static_cast<size_t>(chunk.index)).push_back(std::move(chunk));
        return true;
      });
  ASSERT_TRUE(summary) << summary.error().message;
  for (const auto& chunks : got) {
    ASSERT_GE(chunks.size(), 2u);
    EXPECT_TRUE(chunks[0].is_prompt);
    EXPECT_EQ(chunks[0].text, "ab");
    EXPECT_FALSE(chunks[1].is_prompt);
    ASSERT_EQ(chunks[1].logprobs.size(), 1u);
    EXPECT_EQ(chunks[1].logprobs[0].token.logprob, -0.5f);
    ASSERT_EQ(chunks[1].logprobs[0].top.size(), 2u);
    EXPECT_EQ(chunks[1].logprobs[0].top[1].text, "�");
  }
  EXPECT_EQ(got[0].back().finish_reason, FinishReason::kLength);
  EXPECT_FALSE(got[0].back().stop_reason);
  EXPECT_EQ(got[1].back().finish_reason, FinishReason::kStop);
  EXPECT_EQ(got[1].back().stop_reason, "END");
}

TEST(Generate, ErrorsBeforeAndAfterTheFirstTokenKeepCodeAndMessage) {
  for (const ErrorCode code :
       {ErrorCode::kCancelled, ErrorCode::kInvalidArgument, ErrorCode::kDeadlineExceeded,
        ErrorCode::kNotFound, ErrorCode::kAlreadyExists, ErrorCode::kPermissionDenied,
        ErrorCode::kResourceExhausted, ErrorCode::kFailedPrecondition, ErrorCode::kUnimplemented,
        ErrorCode::kInternal, ErrorCode::kUnavailable, ErrorCode::kDataLoss,
        ErrorCode::kUnauthenticated}) {
    SCOPED_TRACE(to_string(code));
    const Error error{code, "top_p is 7, it must lie in (0, 1] — 温度"};
    FakeService refusing;
    refusing.generate_error = error;
    Loopback refused(refusing);
    FakeService failing([&](FakeCall& call) {
      call.send(1, "x");
      call.end(std::unexpected(error));
    });
    Loopback failed(failing);
    for (Loopback* loopback : {&refused, &failed}) {
      const auto client = GenerationClient::create(loopback->target());
      std::string text;
      const auto summary = client->generate({}, [&](const GenerateChunk& chunk) {
        text += chunk.text;
        return true;
      });
      ASSERT_FALSE(summary);
      EXPECT_EQ(summary.error().code, code);
      EXPECT_EQ(summary.error().message, error.message);
      EXPECT_EQ(text, loopback == &failed ? "x" : "");
    }
  }
}

TEST(Generate, AFullQueueSaysWhenToRetry) {
  FakeService service;
  service.generate_error =
      Error{ErrorCode::kResourceExhausted, "queue is full", std::chrono::microseconds(2'500'001)};
  Loopback loopback(service);
  grpc::ClientContext context;
  const auto reader = loopback.stub().Generate(&context, prompt_request());
  EXPECT_EQ(read_all(*reader).status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const auto& trailing = context.GetServerTrailingMetadata();
  ASSERT_NE(trailing.find("grpc-retry-pushback-ms"), trailing.end());
  EXPECT_EQ(trailing.find("grpc-retry-pushback-ms")->second, "2501");
}

TEST(Generate, GrpcItselfTriesARefusedCallAgain) {
  FakeService service;
  int num_calls = 0;
  service.on_generate = [&](const GenerateRequest&) {
    service.generate_error.reset();
    if (++num_calls < 3) service.generate_error = Error{ErrorCode::kUnavailable, "draining"};
  };
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(R"({"methodConfig": [{"name": [{}], "retryPolicy": {
      "maxAttempts": 3, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1,
      "retryableStatusCodes": ["UNAVAILABLE"]}}]})");
  Loopback loopback(service, {}, arguments);
  const Stream stream = generate(loopback.stub(), prompt_request());
  EXPECT_TRUE(stream.status.ok()) << stream.status.error_message();
  EXPECT_EQ(num_calls, 3);
}

TEST(Generate, ALongMessageIsCutAtACharacter) {
  FakeService service;
  std::string message;
  while (message.size() < 20'000) message += "限";
  service.generate_error = Error{ErrorCode::kInvalidArgument, message};
  Loopback loopback(service);
  const Stream stream = generate(loopback.stub(), prompt_request());
  EXPECT_EQ(stream.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(stream.status.error_message(), message.substr(0, 1023));
}

// gRPC aborts the process on metadata that is not printable ASCII.
TEST(Generate, AnyRequestIdIsSafeInMetadata) {
  const std::string id = std::string("a\r\nb \0%\x1B[31m", 12) + "人";
  FakeService service([&](FakeCall& call) {
    GenerateSummary summary;
    summary.request_id = id;
    call.end(summary);
  });
  Loopback loopback(service);
  grpc::ClientContext context;
  const Stream stream = read_all(*loopback.stub().Generate(&context, prompt_request()));
  ASSERT_TRUE(stream.status.ok());
  EXPECT_EQ(stream.messages.back().request_id(), id);
  const auto& trailing = context.GetServerTrailingMetadata();
  ASSERT_NE(trailing.find("sluice-request-id"), trailing.end());
  EXPECT_EQ(trailing.find("sluice-request-id")->second, "a%0D%0Ab%20%00%25%1B[31m%E4%BA%BA");
}

TEST(Generate, AServiceThatEndsWithoutALastChunkStillGivesTheUsage) {
  FakeService service([](FakeCall& call) { call.end(GenerateSummary{}); });
  Loopback loopback(service);
  const Stream stream = generate(loopback.stub(), prompt_request());
  ASSERT_TRUE(stream.status.ok());
  ASSERT_EQ(stream.messages.size(), 1u);
  EXPECT_TRUE(stream.messages[0].has_usage());
}

TEST(Generate, SixtyFourStreamsAtOnceKeepTheirOrder) {
  constexpr int32_t kStreams = 64;
  constexpr int32_t kTokens = 50;
  FakeService service([](FakeCall& call) {
    const std::string& name = *call.request().prompt;
    for (int32_t i = 0; i < kTokens; ++i) call.send(i, name + "." + std::to_string(i) + " ");
    call.finish();
  });
  Loopback loopback(service);
  std::vector<Stream> streams(kStreams);
  {
    std::vector<std::jthread> clients;
    for (int32_t s = 0; s < kStreams; ++s) {
      clients.emplace_back([&, s] {
        streams[static_cast<size_t>(s)] =
            generate(loopback.stub(), prompt_request(std::to_string(s)));
      });
    }
  }
  for (int32_t s = 0; s < kStreams; ++s) {
    const Stream& stream = streams[static_cast<size_t>(s)];
    ASSERT_TRUE(stream.status.ok()) << stream.status.error_message();
    std::string expected;
    for (int32_t i = 0; i < kTokens; ++i) {
      expected += std::to_string(s) + "." + std::to_string(i) + " ";
    }
    EXPECT_EQ(stream.text(), expected);
  }
  EXPECT_EQ(service.num_calls(), static_cast<size_t>(kStreams));
}

TEST(UnaryMethods, AnswerThroughTheClient) {
  FakeService service;
  Loopback loopback(service);
  const auto client = GenerationClient::create(loopback.target());
  EXPECT_THAT(client->tokenize("tiny", "ab", true).value(), ElementsAre(1, 97, 98));
  EXPECT_THAT(client->tokenize("", "ab", false).value(), ElementsAre(97, 98));
  EXPECT_EQ(client->detokenize("", {1, 97, 98}).value(), "ab");
  EXPECT_EQ(client->tokenize("none", "ab", true).error().code, ErrorCode::kNotFound);
  const auto bad_id = client->detokenize("", {int64_t{1} << 31});
  EXPECT_EQ(bad_id.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(bad_id.error().message, HasSubstr("2147483648"));

  const auto models = client->list_models();
  ASSERT_TRUE(models);
  ASSERT_EQ(models->size(), 1u);
  const ModelInfo& model = models->front();
  const ModelInfo expected = service.models().front();
  EXPECT_EQ(model.name, expected.name);
  EXPECT_EQ(model.family, expected.family);
  EXPECT_EQ(model.digest, expected.digest);
  EXPECT_EQ(model.dtype, expected.dtype);
  EXPECT_EQ(model.profile, expected.profile);
  EXPECT_EQ(model.num_parameters, expected.num_parameters);
  EXPECT_EQ(model.vocabulary_size, expected.vocabulary_size);
  EXPECT_EQ(model.context_length, expected.context_length);
  EXPECT_EQ(model.has_tokenizer, expected.has_tokenizer);
  EXPECT_EQ(model.end_token_ids, expected.end_token_ids);
  EXPECT_EQ(model.kv_capacity_tokens, expected.kv_capacity_tokens);
  EXPECT_EQ(model.kv_bytes_per_token, expected.kv_bytes_per_token);

  const auto info = client->server_info();
  ASSERT_TRUE(info);
  EXPECT_EQ(info->version, "1.2.3");
  EXPECT_EQ(info->device, "fake");
  EXPECT_EQ(info->num_threads, 3);
  EXPECT_EQ(info->uptime, std::chrono::milliseconds(1'500));
  EXPECT_EQ(info->requests_running, 4);
  EXPECT_EQ(info->requests_waiting, 5);
  EXPECT_EQ(info->kv_blocks_used, 6);
  EXPECT_EQ(info->kv_blocks_total, 7);
  EXPECT_EQ(info->prefix_cache_queries, 8);
  EXPECT_EQ(info->prefix_cache_hits, 9);
  EXPECT_EQ(info->preemptions, 10);
}

TEST(UnaryMethods, GetModelKnowsItsNameTheOnlyOneAndNoOther) {
  FakeService service;
  Loopback loopback(service);
  const auto get = [&](const std::string& name, v1::ModelInfo& model) {
    grpc::ClientContext context;
    v1::GetModelRequest request;
    request.set_model(name);
    return loopback.stub().GetModel(&context, request, &model);
  };
  v1::ModelInfo model;
  EXPECT_TRUE(get("", model).ok());
  EXPECT_EQ(model.name(), "tiny");
  EXPECT_TRUE(get("tiny", model).ok());
  for (const std::string name : {"../tiny", "tiny/", "TINY"}) {
    const grpc::Status status = get(name, model);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_EQ(status.error_message().find(name), std::string::npos);
  }
}

TEST(Client, AnUnreachableServerIsUnavailable) {
  FakeService service;
  std::string target;
  {
    Loopback loopback(service);
    target = loopback.target();
  }
  const auto client = GenerationClient::create(target);
  EXPECT_EQ(client->list_models().error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(client->healthy().error().code, ErrorCode::kUnavailable);
}

TEST(Generate, IdsOfRequestAndTraceComeFromMetadata) {
  FakeService service;
  Loopback loopback(service);
  const auto ask = [&](v1::GenerateRequest request) {
    grpc::ClientContext context;
    context.AddMetadata("x-request-id", "from-metadata");
    context.AddMetadata("traceparent", "00-anything");
    EXPECT_TRUE(read_all(*loopback.stub().Generate(&context, request)).status.ok());
  };
  ask(prompt_request());
  v1::GenerateRequest named = prompt_request();
  named.set_request_id("from-message");
  ask(named);
  EXPECT_EQ(service.wait_for_call(0)->request().request_id, "from-metadata");
  EXPECT_EQ(service.wait_for_call(0)->request().traceparent, "00-anything");
  EXPECT_EQ(service.wait_for_call(1)->request().request_id, "from-message");
}

}  // namespace
}  // namespace sluice::server
