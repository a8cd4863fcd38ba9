// What comes out of OpenAI's API over a scripted service: objects, events, errors, and who waits
// for whom.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/http/openai_request.h"
#include "server/service_decorator.h"
#include "tests/server/http_loopback.h"

namespace sluice::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

void send_words(FakeCall& call) {
  call.send(10, "Hello ");
  call.send(11, "\"wörld\"\n");
  call.send_finish(FinishReason::kLength);
  call.end(summary_of(3, 2));
}

Json event(const std::string& text) {
  return Json::parse(text, nullptr, false);
}

TEST(OpenAi, CompletesAsOneObject) {
  FakeService service(send_words);
  HttpLoopback http(service);
  const RawResponse response = http_post(http.port(), kCompletionsPath, R"({"prompt": "p"})");
  ASSERT_EQ(response.status, 200) << response.body;
  const Json json = response.json();
  EXPECT_EQ(json["object"], "text_completion");
  EXPECT_EQ(json["model"], "tiny");
  EXPECT_EQ(json["system_fingerprint"], "test/1:00ff");
  ASSERT_EQ(json["choices"].size(), 1u);
  EXPECT_EQ(json["choices"][0]["text"], "Hello \"wörld\"\n");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "length");
  EXPECT_TRUE(json["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(json["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(json["usage"]["completion_tokens"], 2);
  EXPECT_EQ(json["usage"]["total_tokens"], 5);
  EXPECT_EQ(json["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
  EXPECT_EQ(json["sluice"]["seed"], std::numeric_limits<uint64_t>::max());
  EXPECT_EQ("cmpl-" + response.headers.at("x-request-id"), json["id"]);
  EXPECT_EQ(response.headers.at("sluice-profile"), "test/1");
  // OpenAI's default, not the rest of the context.
  EXPECT_EQ(service.wait_for_call()->request().max_tokens, kDefaultCompletionTokens);
}

TEST(OpenAi, StreamsEventsAndUsage) {
  FakeService service(send_words);
  HttpLoopback http(service);
  const RawResponse response =
      http_post(http.port(), kCompletionsPath,
                R"({"prompt": "p", "stream": true, "stream_options": {"include_usage": true}})");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.at("content-type"), "text/event-stream");
  EXPECT_TRUE(response.is_whole);
  const std::vector<std::string> events = response.events();
  ASSERT_GE(events.size(), 3u);
  EXPECT_EQ(events.back(), "[DONE]");
  std::string text;
  std::string reason;
  for (size_t i = 0; i + 2 < events.size(); ++i) {
    const Json json = event(events[i]);
    ASSERT_TRUE(json.is_object()) << events[i];
    EXPECT_TRUE(json["usage"].is_null());
    text += json["choices"][0]["text"].get<std::string>();
    if (json["choices"][0]["finish_reason"].is_string())
      reason = json["choices"][0]["finish_reason"];
  }
  EXPECT_EQ(text, "Hello \"wörld\"\n");
  EXPECT_EQ(reason, "length");
  const Json last = event(events[events.size() - 2]);
  EXPECT_TRUE(last["choices"].empty());
  EXPECT_EQ(last["usage"]["total_tokens"], 5);
  EXPECT_EQ(last["sluice"]["digest"], "00ff");
}

TEST(OpenAi, ChatsWithRoleContentAndLogprobs) {
  FakeService service([](FakeCall& call) {
    GenerateChunk chunk;
    chunk.token_ids = {5};
    chunk.text = "é";
    chunk.logprobs = {{{5, -0.5F, "é"}, {{5, -0.5F, "é"}, {6, -1.5F, "\xEF\xBF\xBD"}}}};
    call.send(std::move(chunk));
    call.finish(FinishReason::kStop);
  });
  HttpLoopback http(service);
  const std::string body =
      R"({"messages": [{"role": "user", "z": 1, "content": "Hi"}], "logprobs": true,
          "top_logprobs": 2, "max_completion_tokens": 7, "tools": [{"b": 1, "a": 2}]})";
  const Json whole = http_post(http.port(), kChatPath, body).json();
  EXPECT_EQ(whole["object"], "chat.completion");
  const Json& choice = whole["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_EQ(choice["message"]["content"], "é");
  EXPECT_EQ(choice["finish_reason"], "stop");
  const Json& logprob = choice["logprobs"]["content"][0];
  EXPECT_EQ(logprob["token"], "é");
  EXPECT_EQ(logprob["logprob"], -0.5);
  EXPECT_THAT(logprob["bytes"].get<std::vector<int>>(), ElementsAre(0xC3, 0xA9));
  EXPECT_TRUE(logprob["top_logprobs"][1]["bytes"].is_null());
  const GenerateRequest& request = service.wait_for_call()->request();
  EXPECT_EQ(request.logprobs, 2);
  EXPECT_EQ(request.max_tokens, 7);
  // The template sees the keys in the client's order.
  EXPECT_EQ(request.chat->messages, R"([{"role": "user", "z": 1, "content": "Hi"}])");
  EXPECT_EQ(request.chat->tools, R"([{"b": 1, "a": 2}])");

  std::string streamed = body;
  streamed.insert(1, R"("stream": true, )");
  const std::vector<std::string> events = http_post(http.port(), kChatPath, streamed).events();
  const Json first = event(events.front());
  EXPECT_EQ(first["object"], "chat.completion.chunk");
  EXPECT_EQ(first["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(first["choices"][0]["delta"]["content"], "é");
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST(OpenAi, WritesLogprobsOfCompletionsWithTheEchoedPrompt) {
  FakeService service([](FakeCall& call) {
    GenerateChunk prompt;
    prompt.is_prompt = true;
    prompt.text = "ab";
    prompt.token_ids = {1, 2};
    prompt.logprobs = {{{1, 0.0F, "a"}, {}}, {{2, -2.0F, "b"}, {{3, -1.0F, "x"}}}};
    call.send(std::move(prompt));
    GenerateChunk chunk;
    chunk.token_ids = {7};
    chunk.text = "ü";
    chunk.logprobs = {{{7, -0.25F, "ü"}, {{7, -0.25F, "ü"}, {8, -3.0F, "ü"}}}};
    call.send(std::move(chunk));
    call.finish();
  });
  HttpLoopback http(service);
  const Json json = http_post(http.port(), kCompletionsPath,
                              R"({"prompt": "ab", "echo": true, "logprobs": 1,
                                  "return_token_ids": true})")
                        .json();
  const Json& choice = json["choices"][0];
  EXPECT_EQ(choice["text"], "abü");
  EXPECT_EQ(choice["token_ids"], Json::parse("[7]"));
  const Json& logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Json::parse(R"(["a", "b", "ü"])"));
  EXPECT_EQ(logprobs["token_logprobs"], Json::parse("[null, -2, -0.25]"));
  EXPECT_EQ(logprobs["top_logprobs"], Json::parse(R"([null, {"x": -1}, {"ü": -0.25}])"));
  EXPECT_EQ(logprobs["text_offset"], Json::parse("[0, 1, 2]"));
  EXPECT_EQ(service.wait_for_call()->request().prompt_logprobs, 1);
}

TEST(OpenAi, MapsTheServicesErrors) {
  const std::pair<Error, int> cases[] = {
      {{ErrorCode::kInvalidArgument, "top_p is 7, it must lie in (0, 1]"}, 400},
      {{ErrorCode::kNotFound, "unknown model"}, 404},
      {{ErrorCode::kAlreadyExists, "request_id is in use"}, 409},
      {{ErrorCode::kResourceExhausted, "the queue is full"}, 429},
      {{ErrorCode::kUnavailable, "draining"}, 503},
      {{ErrorCode::kDeadlineExceeded, "too late"}, 504},
      {{ErrorCode::kUnimplemented, "not here"}, 501},
      {{ErrorCode::kInternal, "error 7"}, 500},
  };
  for (const auto& [error, status] : cases) {
    FakeService service;
    service.generate_error = error;
    HttpLoopback http(service);
    for (const char* stream : {"false", "true"}) {
      const RawResponse response =
          http_post(http.port(), kCompletionsPath,
                    std::string(R"({"prompt": "p", "top_p": 7, "stream": )") + stream + "}");
      EXPECT_EQ(response.status, status);
      EXPECT_EQ(response.json()["error"]["message"], error.message);
      EXPECT_EQ(response.headers.contains("retry-after"), status == 429 || status == 503);
      EXPECT_EQ(response.json()["error"]["param"] == "top_p", status == 400);
    }
  }
}

TEST(OpenAi, SaysWhenToComeBack) {
  FakeService service;
  service.generate_error =
      Error{ErrorCode::kResourceExhausted, "too many", std::chrono::milliseconds(19'001)};
  HttpLoopback http(service);
  const RawResponse response = http_post(http.port(), kCompletionsPath, R"({"prompt": "p"})");
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(response.headers.at("retry-after"), "20");
}

TEST(OpenAi, AnErrorBeforeTheFirstOutputHasItsStatusAndOneAfterItIsAnEvent) {
  for (const bool has_output : {false, true}) {
    FakeService service([&](FakeCall& call) {
      if (has_output) call.send(1, "x");
      call.end(fail(ErrorCode::kUnavailable, "the server stops"));
    });
    HttpLoopback http(service);
    const RawResponse response =
        http_post(http.port(), kCompletionsPath, R"({"prompt": "p", "stream": true})");
    if (!has_output) {
      EXPECT_EQ(response.status, 503);
      continue;
    }
    // Output and error may have met in one write, before the head was on its way.
    if (response.status == 503) continue;
    EXPECT_EQ(response.status, 200);
    const Json last = event(response.events().back());
    EXPECT_EQ(last["error"]["code"], 503);
    EXPECT_EQ(last["error"]["message"], "the server stops");
  }
}

TEST(OpenAi, SaysThatTheTimeWasUp) {
  FakeService service([](FakeCall& call) {
    call.send(0, "a");
    call.finish(FinishReason::kDeadline);
  });
  HttpLoopback http(service);
  const RawResponse whole = http_post(http.port(), kCompletionsPath, R"({"prompt": "p"})");
  EXPECT_EQ(whole.json()["choices"][0]["finish_reason"], "deadline");
  EXPECT_EQ(whole.json()["choices"][0]["text"], "a");
  const RawResponse stream =
      http_post(http.port(), kCompletionsPath, R"({"prompt": "p", "stream": true})");
  EXPECT_THAT(stream.body, HasSubstr(R"("finish_reason":"deadline")"));
}

// Sized by what the validator lets through, not by a number of its own.
TEST(OpenAi, AsManyChoicesAsTheServiceAllows) {
  FakeService service([](FakeCall& call) {
    call.send(7, "last", 1499);
    call.finish();
  });
  service.limits_.max_n = 1500;
  HttpLoopback http(service);
  for (const char* stream : {"false", "true"}) {
    const RawResponse response =
        http_post(http.port(), kCompletionsPath,
                  std::string(R"({"prompt": "p", "n": 1500, "stream": )") + stream + "}");
    EXPECT_EQ(response.status, 200);
    EXPECT_THAT(response.body, HasSubstr(R"("text":"last")"));
  }
}

TEST(OpenAi, AClientThatLeavesCancels) {
  FakeService service(send_and_hang);
  HttpLoopback http(service);
  for (const char* stream : {"false", "true"}) {
    const size_t number = service.num_calls();
    RawHttp client(http.port());
    client.post(kCompletionsPath, std::string(R"({"prompt": "p", "stream": )") + stream + "}");
    const auto call = service.wait_for_call(number);
    ASSERT_TRUE(call);
    client.close();
    EXPECT_TRUE(call->wait_for_cancel());
  }
}

TEST(OpenAi, OneRefusedPromptCancelsTheOthers) {
  FakeService service([](FakeCall& call) {
    call.wait_for_cancel();
    call.end_cancelled();
  });
  std::atomic<int> num_calls = 0;
  HttpLoopback http(service);
  service.on_generate = [&](const GenerateRequest&) {
    if (++num_calls == 3) service.generate_error = Error{ErrorCode::kResourceExhausted, "full"};
  };
  const RawResponse response =
      http_post(http.port(), kCompletionsPath, R"({"prompt": ["a", "b", "c"]})");
  EXPECT_EQ(response.status, 429);
  EXPECT_TRUE(service.wait_for_call(0)->wait_for_cancel());
  EXPECT_TRUE(service.wait_for_call(1)->wait_for_cancel());
}

TEST(OpenAi, ASlowReaderPausesItsOwnRequest) {
  FakeService service([](FakeCall& call) {
    const std::string text(10'000, 'x');
    for (int i = 0; call.send(i, text); ++i) continue;
    call.end_cancelled();
  });
  service.limits_.max_undelivered_tokens = 8;
  HttpLoopback http(service);
  RawHttp client(http.port(), 4096);
  client.post(kCompletionsPath, R"({"prompt": "p", "stream": true})");
  const auto call = service.wait_for_call();
  ASSERT_TRUE(call->wait_for_pause());
  EXPECT_EQ(http_get(http.port(), "/v1/models").status, 200);
  // How much must be read before the sockets between take more depends on the kernel's buffers.
  const int64_t before = call->num_taken();
  for (int i = 0; i < 10'000 && call->num_taken() == before; ++i) {
    ASSERT_TRUE(client.read_until("xxxx\""));
  }
  EXPECT_TRUE(call->wait_for_delivered(before + 1));
}

// Its output comes before generate() returns, which is what a fast engine may do.
class EagerService final : public ServiceDecorator {
 public:
  using ServiceDecorator::ServiceDecorator;
  static constexpr int32_t kTokens = 500;

  Result<std::shared_ptr<GenerateCall>> generate(
      GenerateRequest /*request*/, std::shared_ptr<GenerateObserver> observer) override {
    for (int32_t i = 0; i < kTokens; ++i) {
      GenerateChunk chunk;
      chunk.token_ids = {i};
      chunk.text = "x";
      observer->on_chunk(std::move(chunk));
    }
    observer_ = std::move(observer);
    return call_;
  }
  // Ends the request once every token's credit has come; false if that takes too long.
  bool finish() {
    const bool has_all = call_->wait_for_delivered(kTokens);
    GenerateChunk last;
    last.finish_reason = FinishReason::kLength;
    observer_->on_chunk(std::move(last));
    observer_->on_end(summary_of(1, kTokens));
    return has_all;
  }

 private:
  std::shared_ptr<FakeCall> call_ = std::make_shared<FakeCall>(GenerateRequest{}, nullptr, 1);
  std::shared_ptr<GenerateObserver> observer_;
};

TEST(OpenAi, CountsWhatComesBeforeTheCallIsKnown) {
  for (const char* stream : {"false", "true"}) {
    FakeService fake;
    EagerService service(fake);
    HttpLoopback http(service);
    RawHttp client(http.port());
    client.post(kCompletionsPath, std::string(R"({"prompt": "p", "stream": )") + stream + "}");
    // The request has been submitted once this later one is answered.
    EXPECT_EQ(http_get(http.port(), "/version").status, 200);
    EXPECT_TRUE(service.finish());
    EXPECT_EQ(client.read().status, 200);
  }
}

}  // namespace
}  // namespace sluice::server
