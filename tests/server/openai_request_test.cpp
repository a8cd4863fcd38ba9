// What goes into OpenAI's API: shapes, parameters, names, keys; what is refused and how.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <string>
#include <vector>

#include "tests/server/http_fixture.h"
#include "tests/server/http_loopback.h"

namespace sluice::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(OpenAiRequest, TakesEveryShapeOfPromptAndNumbersChoices) {
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

TEST(OpenAiRequest, PassesEveryParameter) {
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

TEST(OpenAiRequest, RefusesByName) {
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

TEST(OpenAiRequest, ListsModelsAndTokenizes) {
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

TEST(OpenAiRequest, CarriesTheClientsRequestId) {
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

TEST(OpenAiRequest, LargeBodiesAreReadElsewhere) {
  FakeService service;
  HttpLoopback http(service);
  const std::string prompt(100'000, 'x');
  const RawResponse response =
      http_post(http.port(), kCompletionsPath, R"({"prompt": ")" + prompt + "\"}");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(service.wait_for_call()->request().prompt, prompt);
}

class OpenAiKeys : public HttpFixture {};

TEST_F(OpenAiKeys, EveryRouteOfAClientAsksForOne) {
  start_with_keys();
  for (const char* header :
       {"", "Authorization: Bearer wrong\r\n", "Authorization: open-sesame\r\n"}) {
    RawHttp client(port());
    client.post(kCompletionsPath, R"({"prompt": "p"})", header);
    const RawResponse refused = client.read();
    EXPECT_EQ(refused.status, 401) << header;
    EXPECT_EQ(refused.headers.at("www-authenticate"), "Bearer");
    EXPECT_EQ(refused.json()["error"]["type"], "authentication_error");
    client.get("/v1/models", header);
    EXPECT_EQ(client.read().status, 401) << header;
  }
  RawHttp client(port());
  client.post(kCompletionsPath, R"({"prompt": "p"})", "Authorization: Bearer open-sesame\r\n");
  EXPECT_EQ(client.read().status, 200);
  EXPECT_EQ(service_.num_calls(), 1u);
  EXPECT_EQ(service_.wait_for_call()->request().client, "ali");
  EXPECT_EQ(get("/health").status, 200);
}

}  // namespace
}  // namespace sluice::server
