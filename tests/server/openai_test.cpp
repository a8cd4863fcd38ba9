// OpenAI's API over a scripted service: what goes in, what comes out, and what is refused how.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/http/http_front_end.h"
#include "server/http/openai_request.h"
#include "server/service_decorator.h"
#include "tests/server/access/temporary_folder.h"
#include "tests/server/raw_http.h"

namespace sluice::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kCompletionsPath = "/v1/completions";
constexpr const char* kChatPath = "/v1/chat/completions";

class HttpLoopback final {
 public:
  explicit HttpLoopback(Service& service, HttpFrontEndOptions options = {}) {
    options.server.address = "127.0.0.1:0";
    auto started = HttpFrontEnd::start(options, service);
    if (!started) {
      ADD_FAILURE() << started.error().message;
      return;
    }
    front_end_ = *std::move(started);
  }
  int port() const { return front_end_->port(); }
  HttpFrontEnd& front_end() { return *front_end_; }

 private:
  std::unique_ptr<HttpFrontEnd> front_end_;
};

GenerateSummary summary_of(int32_t prompt_tokens, int32_t completion_tokens) {
  GenerateSummary summary;
  summary.seed = std::numeric_limits<uint64_t>::max();
  summary.profile = "test/1";
  summary.digest = "00ff";
  summary.usage.prompt_tokens = prompt_tokens;
  summary.usage.cached_tokens = 1;
  summary.usage.completion_tokens = completion_tokens;
  return summary;
}

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
  EXPECT_EQ(request.chat->messages, R"([{"role":"user","z":1,"content":"Hi"}])");
  EXPECT_EQ(request.chat->tools, R"([{"b":1,"a":2}])");

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

TEST(OpenAi, TakesEveryShapeOfPromptAndNumbersChoices) {
  FakeService service([](FakeCall& call) {
    const GenerateRequest& request = call.request();
    const std::string text =
        request.prompt ? *request.prompt : std::to_string(request.token_ids->size());
    for (int32_t i = 0; i < request.n.value_or(1); ++i) {
      call.send(1, text + std::to_string(i), i);
      call.send_finish(FinishReason::kStop, i);
    }
    call.end(summary_of(2, 1));
  });
  HttpLoopback http(service);
  const auto texts = [&](const std::string& prompt) {
    const Json json =
        http_post(http.port(), kCompletionsPath, R"({"n": 2, "prompt": )" + prompt + "}").json();
    std::vector<std::string> found;
    for (const Json& choice : json["choices"]) {
      EXPECT_EQ(choice["index"], found.size());
      found.push_back(choice["text"]);
    }
    EXPECT_EQ(json["usage"]["prompt_tokens"], found.size());
    return found;
  };
  EXPECT_THAT(texts(R"("x")"), ElementsAre("x0", "x1"));
  EXPECT_THAT(texts(R"(["x", "y"])"), ElementsAre("x0", "x1", "y0", "y1"));
  EXPECT_THAT(texts("[1, 2, 3]"), ElementsAre("30", "31"));
  EXPECT_THAT(texts("[[1], [2, 3]]"), ElementsAre("10", "11", "20", "21"));
}

TEST(OpenAi, PassesEveryParameter) {
  FakeService service;
  HttpLoopback http(service);
  const RawResponse response = http_post(http.port(), kCompletionsPath, R"({
      "model": "tiny", "prompt": "p", "max_tokens": 5, "min_tokens": 2, "n": 1,
      "temperature": 0.5, "top_p": 0.25, "top_k": 3, "min_p": 0.125, "repetition_penalty": 1.5,
      "presence_penalty": 1, "frequency_penalty": -1, "logit_bias": {"7": -100, "9": 0.5},
      "seed": 18446744073709551615, "stop": "x", "stop_token_ids": [4], "ignore_eos": true,
      "ttft_ms": 250, "total_ms": -1,
      "skip_special_tokens": false, "logprobs": 0, "user": "u", "best_of": 1, "suffix": null})");
  ASSERT_EQ(response.status, 200) << response.body;
  const GenerateRequest& request = service.wait_for_call()->request();
  EXPECT_EQ(request.model, "tiny");
  EXPECT_EQ(request.max_tokens, 5);
  EXPECT_EQ(request.min_tokens, 2);
  EXPECT_EQ(request.n, 1);
  EXPECT_EQ(request.temperature, 0.5);
  EXPECT_EQ(request.top_p, 0.25);
  EXPECT_EQ(request.top_k, 3);
  EXPECT_EQ(request.min_p, 0.125);
  EXPECT_EQ(request.repetition_penalty, 1.5);
  EXPECT_EQ(request.presence_penalty, 1.0);
  EXPECT_EQ(request.frequency_penalty, -1.0);
  ASSERT_EQ(request.logit_bias.size(), 2u);
  EXPECT_EQ(request.logit_bias[0].token_id, 7);
  EXPECT_EQ(request.logit_bias[1].bias, 0.5);
  EXPECT_EQ(request.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_THAT(request.stop, ElementsAre("x"));
  EXPECT_THAT(request.stop_token_ids, ElementsAre(4));
  EXPECT_EQ(request.ttft_limit, std::chrono::milliseconds(250));
  EXPECT_EQ(request.total_limit, std::chrono::milliseconds(-1));
  EXPECT_TRUE(request.ignore_eos);
  EXPECT_FALSE(request.skip_special_tokens);
  EXPECT_EQ(request.logprobs, 0);
}

struct BadBody {
  const char* path;
  const char* body;
  int status;
  const char* param;  // "" if null
  const char* says;
};

TEST(OpenAi, RefusesByName) {
  FakeService service;
  HttpLoopback http(service);
  const BadBody cases[] = {
      {kCompletionsPath, "", 400, "", "JSON"},
      {kCompletionsPath, "[]", 400, "", "object"},
      {kCompletionsPath, R"({"prompt": "p", "prompt": "q"})", 400, "", "twice"},
      {kCompletionsPath, R"({"prompt": "p", "temprature": 1})", 400, "", "temprature"},
      {kCompletionsPath, R"({})", 400, "prompt", "missing"},
      {kCompletionsPath, R"({"prompt": null})", 400, "prompt", "missing"},
      {kCompletionsPath, R"({"prompt": []})", 400, "prompt", "list of strings"},
      {kCompletionsPath, R"({"prompt": ["a", [1]]})", 400, "prompt", "list of"},
      {kCompletionsPath, R"({"prompt": [1, "a"]})", 400, "prompt", "whole numbers"},
      {kCompletionsPath, R"({"prompt": {"a": 1}})", 400, "prompt", "string"},
      {kCompletionsPath, R"({"prompt": "p", "max_tokens": "5"})", 400, "max_tokens",
       "whole number"},
      {kCompletionsPath, R"({"prompt": "p", "max_tokens": 5.5})", 400, "max_tokens",
       "whole number"},
      {kCompletionsPath, R"({"prompt": "p", "seed": -1})", 400, "seed", "from 0"},
      {kCompletionsPath, R"({"prompt": "p", "logit_bias": {"x": 1}})", 400, "logit_bias",
       "token id"},
      {kCompletionsPath, R"({"prompt": "p", "logit_bias": [1]})", 400, "logit_bias", "object"},
      {kCompletionsPath, R"({"prompt": "p", "stop": [1]})", 400, "stop", "strings"},
      {kCompletionsPath, R"({"prompt": "p", "stream": 1})", 400, "stream", "true or false"},
      {kCompletionsPath, R"({"prompt": "p", "stream_options": {"include_usage": true}})", 400,
       "stream_options", "needs stream"},
      {kCompletionsPath, R"({"prompt": "p", "stream_options": {"x": true}})", 400, "stream_options",
       "include_usage"},
      {kCompletionsPath, R"({"prompt": "p", "best_of": 2})", 501, "best_of", "does not have"},
      {kCompletionsPath, R"({"prompt": "p", "suffix": "s"})", 501, "suffix", "does not have"},
      {kCompletionsPath, R"({"prompt": "p", "guided_json": {}})", 501, "guided_json", "not have"},
      {kCompletionsPath, R"({"prompt": "p", "messages": []})", 400, "messages", "this route"},
      {kChatPath, R"({"prompt": "p"})", 400, "prompt", "this route"},
      {kChatPath, R"({"model": "tiny"})", 400, "messages", "missing"},
      {kChatPath, R"({"messages": [], "top_logprobs": 2})", 400, "top_logprobs", "logprobs"},
      {kChatPath, R"({"messages": [], "logprobs": 2})", 400, "logprobs", "true or false"},
      {kChatPath, R"({"messages": [], "max_tokens": 1, "max_completion_tokens": 2})", 400,
       "max_completion_tokens", "differ"},
      {kChatPath, R"({"messages": [], "tool_choice": "required"})", 501, "tool_choice", "auto"},
      {kChatPath, R"({"messages": [], "response_format": {"type": "json_object"}})", 501,
       "response_format", "does not have"},
      {"/tokenize", R"({"text": "x"})", 400, "", "text"},
      {"/tokenize", R"({})", 400, "", "prompt or messages"},
      {"/tokenize", R"({"model": "other", "prompt": "x"})", 404, "", "unknown model"},
      {"/detokenize", R"({"tokens": "x"})", 400, "", "tokens must be"},
      {"/detokenize", R"({"tokens": [999]})", 400, "", "999"},
  };
  for (const BadBody& bad : cases) {
    const RawResponse response = http_post(http.port(), bad.path, bad.body);
    EXPECT_EQ(response.status, bad.status) << bad.body << response.body;
    const Json error = response.json()["error"];
    EXPECT_THAT(error["message"].get<std::string>(), HasSubstr(bad.says)) << bad.body;
    EXPECT_EQ(error["param"].is_null() ? "" : error["param"].get<std::string>(), bad.param)
        << bad.body;
    EXPECT_EQ(error["code"], bad.status);
  }
  EXPECT_EQ(service.num_calls(), 0u);
  RawHttp form(http.port());
  form.send("POST /v1/completions HTTP/1.1\r\nContent-Length: 15\r\n\r\n{\"prompt\": \"p\"}");
  EXPECT_EQ(form.read().status, 415);
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

TEST(OpenAi, AClientThatLeavesCancels) {
  FakeService service([](FakeCall& call) {
    call.send(1, "x");
    call.wait_for_cancel();
    call.end_cancelled();
  });
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
  const int64_t before = call->num_taken();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(client.read_until("xxxx\""));
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

TEST(OpenAi, ListsModelsAndTokenizes) {
  FakeService service;
  HttpLoopback http(service);
  const Json models = http_get(http.port(), "/v1/models").json();
  EXPECT_EQ(models["data"][0]["id"], "tiny");
  EXPECT_EQ(models["data"][0]["max_model_len"], 4096);
  EXPECT_EQ(http_get(http.port(), "/v1/models/tiny").json()["digest"], "00ff");
  EXPECT_EQ(http_get(http.port(), "/v1/models/%74iny").status, 200);
  EXPECT_EQ(http_get(http.port(), "/v1/models/other").status, 404);
  const Json ids = http_post(http.port(), "/tokenize", R"({"prompt": "AB"})").json();
  EXPECT_EQ(ids["tokens"], Json::parse("[1, 65, 66]"));
  EXPECT_EQ(ids["count"], 3);
  const Json plain =
      http_post(http.port(), "/tokenize", R"({"prompt": "A", "add_special_tokens": false})").json();
  EXPECT_EQ(plain["tokens"], Json::parse("[65]"));
  const Json chat = http_post(http.port(), "/tokenize", R"({"messages": []})").json();
  EXPECT_EQ(chat["tokens"], Json::parse("[91, 93]"));
  const Json text = http_post(http.port(), "/detokenize", R"({"tokens": [65, 66]})").json();
  EXPECT_EQ(text["prompt"], "AB");
  EXPECT_EQ(http_get(http.port(), "/health").status, 200);
  EXPECT_EQ(http_get(http.port(), "/version").json()["version"], "1.2.3");
  service.set_health({.live = true, .ready = false});
  EXPECT_EQ(http_get(http.port(), "/health").status, 503);
}

TEST(OpenAi, CarriesTheClientsRequestId) {
  FakeService service;
  HttpLoopback http(service);
  RawHttp client(http.port());
  client.post(kCompletionsPath, R"({"prompt": ["a", "b"]})", "X-Request-Id: my id\r\n");
  const RawResponse response = client.read();
  EXPECT_EQ(response.headers.at("x-request-id"), "my%20id");
  EXPECT_EQ(response.json()["id"], "cmpl-my id");
  EXPECT_EQ(service.wait_for_call(0)->request().request_id, "my id");
  EXPECT_EQ(service.wait_for_call(1)->request().request_id, "my id-1");
}

TEST(OpenAi, AsksForAKey) {
  const TemporaryFolder folder;
  // Of "secret".
  folder.write("keys", "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b ann\n");
  auto keys = ApiKeys::load(folder / "keys", [](const std::string&) {});
  ASSERT_TRUE(keys) << keys.error().message;
  FakeService service;
  HttpLoopback http(service, {.server = {}, .api_keys = *std::move(keys)});
  for (const char* header : {"", "Authorization: Bearer wrong\r\n", "Authorization: secret\r\n"}) {
    RawHttp client(http.port());
    client.post(kCompletionsPath, R"({"prompt": "p"})", header);
    const RawResponse refused = client.read();
    EXPECT_EQ(refused.status, 401) << header;
    EXPECT_EQ(refused.headers.at("www-authenticate"), "Bearer");
    EXPECT_EQ(refused.json()["error"]["type"], "authentication_error");
    client.get("/v1/models", header);
    EXPECT_EQ(client.read().status, 401) << header;
  }
  RawHttp client(http.port());
  client.post(kCompletionsPath, R"({"prompt": "p"})", "Authorization: Bearer secret\r\n");
  EXPECT_EQ(client.read().status, 200);
  EXPECT_EQ(service.num_calls(), 1u);
  EXPECT_EQ(service.wait_for_call()->request().client, "ann");
  EXPECT_EQ(http_get(http.port(), "/health").status, 200);
}

TEST(OpenAi, LargeBodiesAreReadElsewhere) {
  FakeService service(send_words);
  HttpLoopback http(service);
  const std::string prompt(100'000, 'x');
  const RawResponse response =
      http_post(http.port(), kCompletionsPath, R"({"prompt": ")" + prompt + "\"}");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(service.wait_for_call()->request().prompt, prompt);
}

}  // namespace
}  // namespace sluice::server
